"""A small study of pretraining: what each objective makes of the same images at equal compute.

The images come from `$LVMED_TEST_DATA`, their labels put aside: chest X-rays (`cls_cxr3`), brain MRI
(`cls_brainmri2`), PneumoniaMNIST (`cls_pneumoniamnist`), nuclei (`seg_nuclei`) and blood cells
(`det_bccd`). A fixed part of the three labelled sets is held out: drawn by the hash of the patient,
else of the image. It is never shown to pretraining, and a probe on the frozen backbone is judged by
it, `shots` training images a class, several times on other ones.

Every objective starts from the same random ResNet-18 of a seed, sees the same number of pictures and
is optimised alike. The server does all of it: uploads, runs and probes go over HTTP.

    make bench-pretraining             # all methods, three seeds: over an hour on two cores
    make bench-pretraining ARGS=quick  # a few epochs and one seed, to see that it works
"""

import csv
import hashlib
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from demo.api import Api
from demo.server import Server
from demo.terminal import DemoError
from PIL import Image

SIZE = 64
HELD_OUT = 0.4
SHOTS = 20
REPEATS = 5
MNIST_IMAGES = 1200
# Two-sided 95 % quantiles of Student's t for two and four degrees of freedom.
STUDENT = {3: 4.303, 5: 2.776}
LEARNING = {
    "batch_size": 64,
    "optimiser": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup": 0.1,
}
# From random weights neighbours are found by chance, and message passing then mixes up what should be
# told apart; and noise of scale 1 is louder than the affinities. So the one is left out and the other
# small, and what the paper has is a method of its own.
CALM: dict[str, Any] = {"kind": "matching", "message_layers": 0, "noise": {"scale": 0.05}}
METHODS: dict[str, dict[str, Any]] = {
    "second-order matching": CALM,
    "first-order matching": {**CALM, "edge_weight": 0.0},
    "SimCLR": {"kind": "simclr", "hidden": 512},
    "VICRegL": {"kind": "vicregl", "hidden": 512, "output": 512, "gamma": 4},
}
# What was tried besides, with the first seed only.
VARIANTS: dict[str, dict[str, Any]] = {
    "second-order, with messages": {**CALM, "message_layers": 1, "convolution": "graph_conv"},
    "second-order, the paper's settings": {"kind": "matching", "preset": "paper"},
}
RANDOM = "random weights"


@dataclass
class Picture:
    """An image of a set; `held_out` ones are for judging only."""

    name: str
    content: bytes
    label: str | None = None
    patient: str = ""
    held_out: bool = False


@dataclass
class Study:
    """The server with everything uploaded, and what was found so far."""

    api: Api
    pool: str
    tasks: dict[str, str]
    folder: Path
    binary: Path
    # Method, then seed, then task: the mean AUROC over the probe's repeats.
    found: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)


def share(name: str) -> float:
    """A number from 0 to 1 that depends on the name alone, evenly spread."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def labelled(folder: Path, name: str) -> list[Picture]:
    """A set with a `labels.csv`; equal files are taken once."""
    pictures: dict[bytes, Picture] = {}
    with (folder / "labels.csv").open(newline="") as file:
        for row in sorted(csv.DictReader(file), key=lambda row: share(row["file"])):
            content = (folder / row["file"]).read_bytes()
            patient = row.get("patient") or row["file"]
            picture = Picture(f"{name}/{row['file']}", content, row["label"], patient)
            picture.held_out = share(patient) < HELD_OUT
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
            pictures.append(Picture(name, target.getvalue(), label, name, held_out))
    return pictures


def plain(folder: Path, name: str) -> list[Picture]:
    """A set whose labels are not of whole images."""
    files = sorted(file for file in folder.iterdir() if file.suffix in {".png", ".jpg", ".jpeg"})
    return [Picture(f"{name}/{file.name}", file.read_bytes()) for file in files]


def upload(api: Api, name: str, pictures: list[Picture], with_labels: bool, scratch: Path) -> str:
    """Uploads and freezes a dataset; the version's id."""
    packed = scratch / "images.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for at, picture in enumerate(pictures):
            archive.writestr(f"{at:05}{Path(picture.name).suffix}", picture.content)
        if with_labels:
            table = io.StringIO()
            rows = csv.writer(table)
            rows.writerow(["file", "label", "patient", "split"])
            for at, picture in enumerate(pictures):
                split = "test" if picture.held_out else "train"
                file = f"{at:05}{Path(picture.name).suffix}"
                rows.writerow([file, picture.label, picture.patient, split])
            archive.writestr("labels.csv", table.getvalue())
    dataset = api.post("/api/v1/datasets", {"name": name})["id"]
    report = api.upload(f"/api/v1/datasets/{dataset}/uploads", packed, {"file": packed.name})
    if report["rejected"]:
        raise SystemExit(f"not every image of {name} was taken: {report['rejected'][:3]}")
    asked = {"validation": 0, "include_unlabelled": not with_labels}
    return str(api.post(f"/api/v1/datasets/{dataset}/versions", asked)["id"])


def finish(api: Api, asked: dict[str, Any]) -> dict[str, Any]:
    """Queues a run and waits for its end."""
    run = api.post("/api/v1/runs", asked)["id"]
    for _ in api.events(f"/api/v1/runs/{run}/events"):
        pass
    ended: dict[str, Any] = api.get(f"/api/v1/runs/{run}")
    if ended["status"] != "succeeded":
        raise SystemExit(f"the run {ended['status']}: {ended['error']}")
    return ended


def start(study: Study, seed: int) -> str:
    """Imports the random network of a seed; its id."""
    file = study.folder / f"random-{seed}.safetensors"
    command = [str(study.binary), "backbone", "random", "--architecture", "resnet18"]
    subprocess.run([*command, "--seed", str(seed), "--out", str(file)], check=True)
    fields = {
        "name": f"random {seed}",
        "source_url": "lvmed backbone random",
        "license": "none needed: random numbers",
        "size": str(SIZE),
    }
    return str(study.api.upload_form("/api/v1/backbones", fields, file)["id"])


def probe(study: Study, backbone: str, seed: int) -> dict[str, float]:
    """The AUROC of each task, the mean over the repeats."""
    found = {}
    for task, version in study.tasks.items():
        asked = {
            "kind": "finetune",
            "method": "probe",
            "backbone": backbone,
            "dataset_version": version,
            "shots": SHOTS,
            "repeats": REPEATS,
            "seed": 100 * seed,
        }
        evaluation = finish(study.api, asked)["evaluation"]
        found[task] = float(evaluation["repeats"]["macro_auroc"]["mean"])
    return found


def measure(study: Study, seed: int, epochs: int, methods: list[str]) -> None:
    """All methods from the random network of one seed."""
    random = start(study, seed)
    record(study, RANDOM, seed, probe(study, random, seed))
    for method in methods:
        begun = time.perf_counter()
        asked = {
            "kind": "pretrain",
            "dataset_version": study.pool,
            "backbone": random,
            "seed": seed,
            "objective": {**METHODS, **VARIANTS}[method],
            "learning": {**LEARNING, "epochs": epochs},
        }
        backbone = finish(study.api, asked)["backbone"]
        study.seconds.setdefault(method, []).append(time.perf_counter() - begun)
        record(study, method, seed, probe(study, backbone, seed))


def record(study: Study, method: str, seed: int, areas: dict[str, float]) -> None:
    """Keeps and prints what was found."""
    study.found.setdefault(method, {})[seed] = areas
    told = "  ".join(f"{task} {area:.3f}" for task, area in areas.items())
    print(f"  seed {seed}  {method:<28} {told}", flush=True)


def interval(values: list[float]) -> str:
    """Mean and 95 % t-interval."""
    mean = statistics.mean(values)
    if len(values) not in STUDENT:
        return f"{mean:.3f}"
    half = STUDENT[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.3f} ± {half:.3f}"


def report(study: Study) -> None:
    """Prints the table, and a JSON line for each method."""
    tasks = list(study.tasks)
    print("\n| method | " + " | ".join([*tasks, "mean", "over random weights", "seconds"]) + " |")
    print("| --- |" + " --- |" * (len(tasks) + 3))
    averages = {
        method: {seed: statistics.mean(areas.values()) for seed, areas in seeds.items()}
        for method, seeds in study.found.items()
    }
    lines = []
    for method, seeds in study.found.items():
        columns = [interval([areas[task] for areas in seeds.values()]) for task in tasks]
        gains = [averages[method][seed] - averages[RANDOM][seed] for seed in seeds]
        seconds = statistics.median(study.seconds.get(method, [0.0]))
        columns += [interval(list(averages[method].values())), interval(gains), f"{seconds:.0f}"]
        print(f"| {method} | " + " | ".join(columns) + " |")
        line = {
            "bench": f"pretraining/{method.replace(', ', '/').replace(' ', '-')}",
            "ours": round(statistics.mean(averages[method].values()), 4),
            "peer": round(statistics.mean(averages[RANDOM].values()), 4),
            "unit": "AUROC",
            "better": "higher",
            "seeds": len(seeds),
        }
        lines.append(json.dumps(line, separators=(",", ":")))
    print("\n" + "\n".join(lines))


def main() -> None:
    """Runs the study; the second argument is `quick`, parts of methods' names, or nothing."""
    binary, wanted = Path(sys.argv[1]), sys.argv[2]
    quick = wanted == "quick"
    epochs = int(os.environ.get("LVMED_STUDY_EPOCHS", "2" if quick else "20"))
    seeds = range(1 if quick else int(os.environ.get("LVMED_STUDY_SEEDS", "3")))
    wanted_parts = [""] if quick else wanted.split(",")
    methods, variants = (
        [name for name in of if any(part in name for part in wanted_parts)]
        for of in (METHODS, VARIANTS)
    )
    # The server must not outlive this program.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.pop("DATABASE_URL", None)  # A database of the caller's would be written to.
    source = Path(os.environ["LVMED_TEST_DATA"])
    sets = {
        "chest X-rays": labelled(source / "cls_cxr3", "cxr"),
        "brain MRI": labelled(source / "cls_brainmri2", "mri"),
        "PneumoniaMNIST": mnist(source / "cls_pneumoniamnist" / "pneumoniamnist.npz"),
    }
    pool = [picture for pictures in sets.values() for picture in pictures if not picture.held_out]
    pool += plain(source / "seg_nuclei" / "images", "nuclei")
    pool += plain(source / "det_bccd" / "images", "cells")
    with tempfile.TemporaryDirectory(prefix="lvmed-bench.", dir="/var/tmp") as scratch:
        runtime = Path(scratch)
        runtime.chmod(0o755)  # The built-in Postgres runs as another user when this is root.
        (runtime / "demo").mkdir()
        server = Server(binary, runtime)
        try:
            api = server.start()
            version = upload(api, "pool", pool, False, runtime)
            tasks = {name: upload(api, name, of, True, runtime) for name, of in sets.items()}
            study = Study(api, version, tasks, runtime, binary)
            held_out = sum(picture.held_out for of in sets.values() for picture in of)
            print(f"{len(pool)} images to learn from, {held_out} held out, {epochs} epochs")
            for seed in seeds:
                measure(study, seed, epochs, methods + (variants if seed == 0 else []))
        except DemoError as error:
            raise SystemExit(f"{error}\nthe server's log ends:\n{server.log_tail()}") from error
        finally:
            server.stop()
    report(study)


if __name__ == "__main__":
    main()
