"""Checks what was downloaded: hashes, lengths, and that `model.onnx` answers as the server does."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from .api import Api, Refused
from .pictures import Item
from .prepare import is_lossy, prepare
from .terminal import DemoError, say

ARTIFACTS = ("model.safetensors", "model.onnx", "card.md", "config.json")
# Of probabilities. Lossy files get more room: two JPEG decoders may round apart.
TOLERANCE = 1e-3
LOSSY_TOLERANCE = 2e-2


@dataclass
class Downloaded:
    """A downloaded artifact that was found to be whole."""

    path: Path
    size_bytes: int
    sha256: str


def download(api: Api, model: dict[str, Any], folder: Path) -> list[Downloaded]:
    """Downloads every artifact and holds it to what the server says of it."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {artifact["name"]: artifact for artifact in model["artifacts"]}
    if absent := [name for name in ARTIFACTS if name not in said]:
        raise DemoError(f"the model lacks {', '.join(absent)}")
    files = []
    for name in ARTIFACTS:
        target = folder / name
        digest, length, announced = api.download(
            f"/api/v1/models/{model['id']}/artifacts/{name}", target
        )
        expected = said[name]
        if digest != expected["sha256"] or not length == announced == expected["size_bytes"]:
            raise DemoError(
                f"{name}: {length} bytes with SHA-256 {digest} came, {announced} were announced, "
                f"the model says {expected['size_bytes']} with {expected['sha256']}"
            )
        files.append(Downloaded(target, length, digest))
    return files


@dataclass
class Answer:
    """The server's answer for one held-back picture."""

    item: Item
    frame: int
    label: str
    probabilities: dict[str, float]

    @property
    def is_right(self) -> bool:
        """Whether the server's label is the true one."""
        return self.label == self.item.label


def predict(api: Api, model_id: str, items: list[Item]) -> list[Answer]:
    """Asks the server about files that it has never seen."""
    answers = []
    for item in items:
        try:
            found = api.post_bytes(f"/api/v1/models/{model_id}/predict", item.read())
        except Refused as error:
            say(f"    {item.name} was refused: {error}")
            continue
        for prediction in found["items"]:
            probabilities = {p["label"]: p["probability"] for p in prediction["probabilities"]}
            answers.append(Answer(item, prediction["frame"], prediction["label"], probabilities))
    if items and not answers:
        raise DemoError("no held-back file got a prediction")
    return answers


def compare(folder: Path, answers: list[Answer]) -> float:
    """Runs the downloaded network here; the largest difference from the server's answers."""
    config = json.loads((folder / "config.json").read_text())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    largest, compared = 0.0, 0
    for answer in answers:
        data = answer.item.read()
        try:
            network_input = prepare(data, answer.frame, config["preprocessing"])
        except Exception as error:  # noqa: BLE001 - pydicom alone decodes less than the server
            say(f"    not compared: {answer.item.name}: {str(error).splitlines()[0][:90]}")
            continue
        (ours,) = session.run(["probabilities"], {"images": network_input})
        theirs = np.array([answer.probabilities[label] for label in config["labels"]])
        difference = float(np.abs(ours[0] - theirs).max())
        allowed = LOSSY_TOLERANCE if is_lossy(data) else TOLERANCE
        if not difference < allowed:
            raise DemoError(
                f"{answer.item.name}, frame {answer.frame}: the downloaded model.onnx and the "
                f"server differ by {difference:.2g} where {allowed:g} is allowed"
            )
        largest, compared = max(largest, difference), compared + 1
    if answers and not compared:
        raise DemoError("no held-back picture could be compared")
    return largest
