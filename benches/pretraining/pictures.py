"""Pictures of the test sets: some held out for judging, drawn by the hash of patient or image."""

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

HELD_OUT = 0.4
MNIST_IMAGES = 1200


@dataclass
class Picture:
    """An image of a set; `held_out` ones are for judging only."""

    name: str
    content: bytes
    label: str | None = None
    patient: str = ""
    held_out: bool = False


Sets = dict[str, list[Picture]]


def share(name: str) -> float:
    """A number from 0 to 1 that depends on the name alone, evenly spread."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def with_labels(folder: Path, name: str) -> list[Picture]:
    """A set with a `labels.csv`; equal files are taken once."""
    pictures: dict[bytes, Picture] = {}
    with (folder / "labels.csv").open(newline="") as file:
        for row in sorted(csv.DictReader(file), key=lambda row: share(row["file"])):
            content = (folder / row["file"]).read_bytes()
            patient = row.get("patient") or ""
            picture = Picture(f"{name}/{row['file']}", content, row["label"], patient)
            picture.held_out = share(patient or row["file"]) < HELD_OUT
            pictures.setdefault(hashlib.sha256(content).digest(), picture)
    return list(pictures.values())


def mnist(file: Path) -> list[Picture]:
    """Some of PneumoniaMNIST as PNG files."""
    pictures = []
    with np.load(file) as arrays:
        images, labels = arrays["train_images"], arrays["train_labels"]
        for at in sorted(range(len(images)), key=lambda at: share(f"mnist {at}"))[:MNIST_IMAGES]:
            target = io.BytesIO()
            Image.fromarray(images[at]).save(target, "png")
            name, label = f"mnist/{at}.png", ["normal", "pneumonia"][int(labels[at][0])]
            held_out = share(name) < HELD_OUT
            pictures.append(Picture(name, target.getvalue(), label, "", held_out))
    return pictures


def plain(folder: Path, name: str) -> list[Picture]:
    """A set whose labels are not of whole images."""
    files = sorted(file for file in folder.iterdir() if file.suffix in {".png", ".jpg", ".jpeg"})
    return [Picture(f"{name}/{file.name}", file.read_bytes()) for file in files]


def labelled(source: Path) -> Sets:
    """The sets that backbones are judged on."""
    return {
        "chest X-rays": with_labels(source / "cls_cxr3", "cxr"),
        "brain MRI": with_labels(source / "cls_brainmri2", "mri"),
        "PneumoniaMNIST": mnist(source / "cls_pneumoniamnist" / "pneumoniamnist.npz"),
    }


def unlabelled(source: Path) -> list[Picture]:
    """Nuclei and blood cells, to learn from only."""
    nuclei = plain(source / "seg_nuclei" / "images", "nuclei")
    return nuclei + plain(source / "det_bccd" / "images", "cells")


def learnt_from(sets: Sets, names: list[str]) -> list[Picture]:
    """What of these sets is not held out."""
    return [picture for name in names for picture in sets[name] if not picture.held_out]
