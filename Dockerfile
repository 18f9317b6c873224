# The server in a container: `runtime` computes on the CPU, `runtime-cuda` on an NVIDIA GPU.
#
#   docker build --target runtime -t lvmed .
#   docker build --target runtime-cuda -t lvmed:cuda .
#
# Neither image holds Postgres or weights: give DATABASE_URL, and import a backbone once it runs.

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked

# ONNX Runtime's shared library, checked by hash.
FROM python:3.12-slim-bookworm AS onnxruntime
COPY scripts/common.sh scripts/setup-onnxruntime.sh /source/scripts/
RUN /source/scripts/setup-onnxruntime.sh /opt/onnxruntime

FROM debian:bookworm-slim AS runtime
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data lvmed \
    && install -d -o lvmed -g lvmed /data
COPY --from=onnxruntime /opt/onnxruntime /opt/onnxruntime
COPY --from=build /source/target/release/lvmed /usr/local/bin/lvmed
COPY LICENSE /usr/share/doc/lvmed/
ENV LVMED_LISTEN=0.0.0.0:8080 \
    LVMED_DATA=/data \
    ORT_DYLIB_PATH=/opt/onnxruntime/libonnxruntime.so
USER 10001
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://127.0.0.1:8080/readyz"]
ENTRYPOINT ["lvmed"]
CMD ["serve"]

# Training on a GPU needs nvcc to build. The compute capability is that of the oldest card to serve:
# 80 is an A100, 86 an RTX 30, 89 an RTX 40, 90 an H100.
FROM nvidia/cuda:13.0.1-cudnn-devel-ubuntu24.04 AS build-cuda
ARG CUDA_COMPUTE_CAP=80
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /usr/local/cargo /usr/local/cargo
COPY --from=build /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo \
    RUSTUP_HOME=/usr/local/rustup \
    PATH=/usr/local/cargo/bin:$PATH \
    CUDA_COMPUTE_CAP=$CUDA_COMPUTE_CAP
WORKDIR /source
COPY . .
RUN cargo build --release --locked --features cuda

# The GPU library of the same version, with its CUDA provider beside it; built for CUDA 13.
FROM python:3.12-slim-bookworm AS onnxruntime-cuda
WORKDIR /opt/onnxruntime
RUN echo "onnxruntime-gpu==1.31.1 --hash=sha256:05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7" > wanted.txt \
    && pip download --no-cache-dir --no-deps --only-binary=:all: --require-hashes -r wanted.txt \
    && python -m zipfile -e onnxruntime_gpu-*.whl wheel \
    && mv wheel/onnxruntime/capi/libonnxruntime.so.1.31.1 libonnxruntime.so \
    && mv wheel/onnxruntime/capi/libonnxruntime_providers_shared.so . \
    && mv wheel/onnxruntime/capi/libonnxruntime_providers_cuda.so . \
    && mv wheel/onnxruntime/LICENSE wheel/onnxruntime/ThirdPartyNotices.txt . \
    && rm -rf wheel wanted.txt onnxruntime_gpu-*.whl

FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 AS runtime-cuda
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data lvmed \
    && install -d -o lvmed -g lvmed /data
COPY --from=onnxruntime-cuda /opt/onnxruntime /opt/onnxruntime
COPY --from=build-cuda /source/target/release/lvmed /usr/local/bin/lvmed
COPY LICENSE /usr/share/doc/lvmed/
ENV LVMED_LISTEN=0.0.0.0:8080 \
    LVMED_DATA=/data \
    LVMED_DEVICE=cuda \
    ORT_DYLIB_PATH=/opt/onnxruntime/libonnxruntime.so
USER 10001
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://127.0.0.1:8080/readyz"]
ENTRYPOINT ["lvmed"]
CMD ["serve"]
