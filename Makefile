# What people do with this repository; the work is in scripts/.

.DEFAULT_GOAL := help
.PHONY: help bench-coverage bench-few-shot bench-intake bench-match bench-methods bench-pretraining bench-train check-cuda demo test serve setup fmt lint openapi clean-runtime

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Do the whole job on real images (KEEP=1 leaves the server running, DATA=path uses your own)
	@scripts/demo.sh

test: ## Check everything that CI checks
	@scripts/test.sh

serve: ## Build in release and run the server on http://127.0.0.1:8080
	@scripts/serve.sh

setup: ## Install what building and running needs and what is missing
	@scripts/setup.sh server

fmt: ## Format the code
	cargo fmt
	@scripts/lint.sh --fix

lint: ## Check the format, clippy, the docs, the dependencies and the scripts
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	@scripts/lint.sh

check-cuda: ## Type-check the build for NVIDIA GPUs (fetches nvcc; no GPU needed)
	@scripts/check-cuda.sh

openapi: ## Write openapi/openapi.json from the code
	@scripts/openapi.sh

bench-coverage: ## Simulate how often the intervals of an evaluation hold the truth
	@scripts/bench.sh coverage

bench-few-shot: ## Compare heads on frozen features with scikit-learn's (ARGS=set/features picks)
	@scripts/bench.sh heads $(ARGS)

bench-intake: ## Measure what reading files in processes of their own costs
	@scripts/bench.sh intake

bench-match: ## Compare matching solvers with public heuristics (ARGS=name picks instances)
	@scripts/bench.sh matching $(ARGS)

bench-methods: ## Compare last, full and lora with the head that they start from
	@scripts/bench.sh methods $(ARGS)

bench-pretraining: ## Study what each way of pretraining gains (hours; ARGS=quick tries it out)
	@scripts/bench.sh pretraining $(ARGS)

bench-train: ## Compare training steps, convolutions and few-shot jobs with PyTorch (ARGS=name picks cases)
	@scripts/bench.sh train $(ARGS)

clean-runtime: ## Remove what set-up and the demo placed under .runtime
	rm -rf .runtime
