"""A few-shot job in PyTorch as it is usually written by hand: the peer of benches/few_shot.py.

Reads its task as JSON from standard input and answers with its seconds, from the folder of images
to the AUROC, and what it says of each test image. Importing PyTorch is not counted.
"""

import csv
import json
import math
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from auroc import Areas
from PIL import Image, ImageEnhance
from torch import nn
from torch.utils.data import DataLoader, Dataset
from train import ResNet


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """The images of one split, decoded each time they are asked for."""

    def __init__(self, task: dict[str, Any], split: str, augment: bool) -> None:
        folder = Path(task["folder"])
        with (folder / "labels.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == split]
        self.files = [row["file"] for row in rows]
        self.labels = [task["labels"].index(row["label"]) for row in rows]
        self._folder, self._size, self._augment = folder, task["size"], augment
        self._mean = torch.tensor(task["mean"]).view(3, 1, 1)
        self._std = torch.tensor(task["std"]).view(3, 1, 1)

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.files)

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        """An image, normalised, and its class."""
        image = Image.open(self._folder / self.files[at]).convert("RGB")
        if self._augment:
            image = vary(image)
        image = image.resize((self._size, self._size), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (pixels - self._mean) / self._std, self.labels[at]


def vary(image: Image.Image) -> Image.Image:
    """A small random rotation, crop and change of brightness and contrast."""
    image = image.rotate(random.uniform(-7, 7), Image.Resampling.BILINEAR)
    side = math.sqrt(random.uniform(0.85, 1))
    width, height = image.width * side, image.height * side
    left, top = random.uniform(0, image.width - width), random.uniform(0, image.height - height)
    image = image.crop((round(left), round(top), round(left + width), round(top + height)))
    image = ImageEnhance.Brightness(image).enhance(random.uniform(0.9, 1.1))
    return ImageEnhance.Contrast(image).enhance(random.uniform(0.85, 1.15))


def load(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file of 32-bit floats, under the names of `train.ResNet`."""
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    tensors = {}
    for name, about in json.loads(content[8:start]).items():
        if name == "__metadata__" or about["dtype"] != "F32":
            continue
        first, end = about["data_offsets"]
        values = torch.frombuffer(
            bytearray(content[start + first : start + end]), dtype=torch.float
        )
        tensors[name] = values.view(about["shape"])
    return rename(tensors)


def rename(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """torchvision's names into those of `train.ResNet`, which numbers its blocks throughout."""

    def block(name: str) -> tuple[int, int] | None:
        found = re.match(r"layer(\d+)\.(\d+)\.", name)
        return (int(found[1]), int(found[2])) if found else None

    blocks = sorted({key for key in map(block, tensors) if key})
    renamed = {}
    for name, tensor in tensors.items():
        if key := block(name):
            rest = name.split(".", 2)[2].replace("downsample", "down")
            rest = re.sub(r"^conv(\d)", lambda found: f"convs.{int(found[1]) - 1}", rest)
            rest = re.sub(r"^bn(\d)", lambda found: f"norms.{int(found[1]) - 1}", rest)
            name = f"layers.{blocks.index(key)}.{rest}"
        renamed[name] = tensor
    return renamed


def model_of(task: dict[str, Any]) -> ResNet:
    """The backbone with its weights and a new head."""
    model = ResNet(task["architecture"])
    missing, unexpected = model.load_state_dict(load(Path(task["weights"])), strict=False)
    lost = [name for name in missing if not name.endswith("num_batches_tracked")]
    if set(lost) != {"fc.weight", "fc.bias"} or unexpected:
        raise SystemExit(f"the weights do not fit: {lost} missing, {unexpected} unknown")
    model.fc = nn.Linear(model.fc.in_features, len(task["labels"]))
    return model.to(memory_format=torch.channels_last)


def probe(task: dict[str, Any], loader: DataLoader[Any]) -> nn.Module:
    """A linear head on the frozen backbone, which sees every picture anew in every epoch."""
    model = model_of(task).eval()
    head, model.fc = model.fc, nn.Identity()
    optimiser = torch.optim.AdamW(head.parameters(), lr=task["learning_rate"])
    for _ in range(task["epochs"]):
        for images, labels in loader:
            with torch.no_grad():
                features = model(images.contiguous(memory_format=torch.channels_last))
            optimiser.zero_grad()
            F.cross_entropy(head(features), labels).backward()
            optimiser.step()
    model.fc = head
    return model


def full(task: dict[str, Any], loader: DataLoader[Any]) -> nn.Module:
    """Every layer, with the schedule, weight decay and clipping of ours."""
    model = model_of(task).train()
    parameters = list(model.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=task["learning_rate"], weight_decay=1e-2)
    steps = task["epochs"] * len(loader)
    rise = round(steps * 0.1)

    def rate(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    for _ in range(task["epochs"]):
        for images, labels in loader:
            images = images.contiguous(memory_format=torch.channels_last)
            optimiser.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
    return model


def main() -> None:
    """Does the task and answers."""
    task = json.load(sys.stdin)
    torch.set_num_threads(task["threads"])
    started = time.perf_counter()
    random.seed(task["seed"])
    torch.manual_seed(task["seed"])
    training, test = Pictures(task, "train", augment=True), Pictures(task, "test", augment=False)
    size = task["batch_size"]
    loader = DataLoader(training, size, shuffle=True, num_workers=2, persistent_workers=True)
    model = {"probe": probe, "full": full}[task["method"]](task, loader).eval()
    with torch.no_grad():
        answers = [
            model(images.contiguous(memory_format=torch.channels_last)).softmax(1)
            for images, _ in DataLoader(test, size, num_workers=2)
        ]
    scores = torch.cat(answers).numpy()
    auroc = Areas(scores, np.array(test.labels)).macro(np.ones(len(scores)))
    answer = {
        "seconds": time.perf_counter() - started,
        "auroc": auroc,
        "probabilities": dict(zip(test.files, scores.tolist(), strict=True)),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
