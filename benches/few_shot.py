"""Whole few-shot jobs, from a folder of images to a test AUROC, against a PyTorch script.

The images are the chest X-rays of `cls_cxr3` in `$LVMED_TEST_DATA`: 150 of each class to learn
from, a fifth of the patients to be judged by. The set's own split puts 18 patients on both sides,
which the server refuses; so a new one is drawn here by the hash of the patient (of the image, where
the patient is not known), the same for both sides and on every machine. The weights are those of
the demo (scripts/demo/weights.py, `LVMED_DEMO_WEIGHTS`); the peer reads the file that the server
stores.

Ours is the product: the release binary with a fresh data folder for each pair. Its start and the
import of the backbone are not counted; the time from packing the folder to the evaluation is, over
HTTP. The peer (benches/peers/few_shot.py) is counted from its first line after the imports. It uses
channels last, the faster of PyTorch's memory layouts, and as many threads as ours.
"""

import csv
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from auroc import Areas, difference
from demo import weights
from demo.api import Api
from demo.server import Server
from demo.terminal import DemoError

ROOT = Path(__file__).resolve().parent.parent
LABELS = ["bacterial", "normal", "viral"]
SHOTS = 150
TEST_SHARE = 0.2


@dataclass
class Case:
    """A job, as both sides do it."""

    name: str
    method: str
    # Interleaved pairs behind the median.
    pairs: int
    # Side of the square input, in pixels.
    size: int
    epochs: int
    batch_size: int
    learning_rate: float

    def recipe(self) -> dict[str, Any]:
        """What our run is asked; a probe has no settings."""
        if self.method == "probe":
            return {"method": "probe"}
        training = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "augment": "chest_xray",
        }
        return {"method": self.method, "training": training}


CASES = [
    Case("few-shot-probe", "probe", 5, 96, 20, 32, 1e-3),
    Case("few-shot-full", "full", 5, 96, 3, 16, 1e-4),
    # One pair takes a quarter of an hour, nearly all of it the peer's.
    Case("few-shot-224", "probe", 1, 224, 20, 32, 1e-3),
]


@dataclass
class Row:
    """An image of the split; `file` names it in the folder that both sides get."""

    file: str
    label: str
    patient: str
    split: str


@dataclass
class Outcome:
    """What one side took and found."""

    seconds: float
    auroc: float
    probabilities: dict[str, list[float]]


def draw(source: Path, folder: Path) -> list[Row]:
    """Draws the split, and fills `folder` with its images and a `labels.csv`."""
    with (source / "labels.csv").open(newline="") as file:
        images = list(csv.DictReader(file))
    images.sort(key=lambda image: share(image["file"]))
    rows: list[Row] = []
    learnt: Counter[str] = Counter()
    seen: set[bytes] = set()
    for image in images:
        is_test = share(image["patient"] or image["file"]) < TEST_SHARE
        content = (source / image["file"]).read_bytes()
        digest = hashlib.sha256(content).digest()
        label = image["label"]
        if digest in seen or (not is_test and learnt[label] == SHOTS):
            continue
        seen.add(digest)
        learnt[label] += not is_test
        row = Row(f"{len(rows):04}.jpeg", label, image["patient"], "test" if is_test else "train")
        (folder / row.file).write_bytes(content)
        rows.append(row)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "patient", "split"])
        table.writerows([row.file, row.label, row.patient, row.split] for row in rows)
    return rows


def share(name: str) -> float:
    """A number from 0 to 1 that depends on the name alone, evenly spread."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def measure(case: Case, folder: Path, binary: Path, seed: int) -> tuple[Outcome, Outcome]:
    """One pair: ours, then the peer."""
    with tempfile.TemporaryDirectory(prefix="lvmed-bench.", dir="/var/tmp") as scratch:
        runtime = Path(scratch)
        runtime.chmod(0o755)  # The built-in Postgres runs as another user when this is root.
        (runtime / "demo").mkdir()
        server = Server(binary, runtime)
        try:
            api = server.start()
            source = weights.find(ROOT / ".runtime", binary)
            source.fields["size"] = str(case.size)
            backbone = api.upload_form("/api/v1/backbones", source.fields, source.file)
            own = ours(case, api, folder, backbone["id"], seed)
            stored = next((server.data / "blobs").rglob(backbone["weights_sha256"]))
            file = stored.rename(runtime / "backbone.safetensors")
        except DemoError as error:
            raise SystemExit(f"{error}\nthe server's log ends:\n{server.log_tail()}") from error
        finally:
            server.stop()
        return own, theirs(case, folder, backbone, file, seed)


def ours(case: Case, api: Api, folder: Path, backbone: str, seed: int) -> Outcome:
    """The product, from the folder to the evaluation."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lvmed-bench.") as scratch:
        packed = Path(scratch) / "images.zip"
        with zipfile.ZipFile(packed, "w") as archive:
            for file in folder.iterdir():
                archive.write(file, file.name)
        dataset = api.post("/api/v1/datasets", {"name": case.name})["id"]
        report = api.upload(f"/api/v1/datasets/{dataset}/uploads", packed, {"file": packed.name})
    if report["rejected"] or report["duplicates"] or len(report["receipt"]) != report["files"]:
        raise SystemExit(f"not every image was taken: {report}")
    files = {received["number"]: received["file"] for received in report["receipt"]}
    version = api.post(f"/api/v1/datasets/{dataset}/versions", {"validation": 0})
    asked = {"kind": "finetune", "dataset_version": version["id"], "backbone": backbone}
    run = api.post("/api/v1/runs", {**asked, "seed": seed, **case.recipe()})["id"]
    for _ in api.events(f"/api/v1/runs/{run}/events"):
        pass
    finished = api.get(f"/api/v1/runs/{run}")
    seconds = time.perf_counter() - started
    if finished["status"] != "succeeded":
        raise SystemExit(f"the run {finished['status']}: {finished['error']}")
    evaluation = finished["evaluation"]
    order = [evaluation["labels"].index(label) for label in LABELS]
    items = api.get(f"/api/v1/runs/{run}/predictions")["items"]
    probabilities = {
        files[item["number"]]: [item["probabilities"][at] for at in order] for item in items
    }
    return Outcome(seconds, evaluation["macro_auroc"]["value"], probabilities)


def theirs(case: Case, folder: Path, backbone: dict[str, Any], file: Path, seed: int) -> Outcome:
    """The PyTorch script, on the same images and weights."""
    task = {
        "folder": str(folder),
        "labels": LABELS,
        "weights": str(file),
        "architecture": backbone["architecture"],
        **{key: backbone["preprocessing"][key] for key in ("size", "mean", "std")},
        **{key: getattr(case, key) for key in ("method", "epochs", "batch_size", "learning_rate")},
        "threads": len(os.sched_getaffinity(0)),
        "seed": seed,
    }
    script = [sys.executable, str(ROOT / "benches/peers/few_shot.py")]
    answer = subprocess.run(script, input=json.dumps(task), stdout=subprocess.PIPE, text=True)
    answer.check_returncode()
    return Outcome(**json.loads(answer.stdout))


def compare(case: Case, folder: Path, rows: list[Row], binary: Path) -> str:
    """All pairs of a case: prints the table's row, gives the JSON line."""
    pairs = [measure(case, folder, binary, seed) for seed in range(case.pairs)]
    test = [row for row in rows if row.split == "test"]
    truth = np.array([LABELS.index(row.label) for row in test])
    sides = []
    for side in zip(*pairs, strict=True):
        areas = []
        for outcome in side:
            scores = np.array([outcome.probabilities[row.file] for row in test])
            areas.append(Areas(scores, truth))
            # The reported area and the one behind the interval are the same.
            if abs(areas[-1].macro(np.ones(len(test))) - outcome.auroc) > 1e-4:
                raise SystemExit(f"{case.name}: AUROC {outcome.auroc} is not that of its answers")
        seconds = statistics.median(outcome.seconds for outcome in side)
        sides.append((seconds, statistics.mean(outcome.auroc for outcome in side), areas))
    (own, own_auroc, own_areas), (peer, peer_auroc, peer_areas) = sides
    low, high = difference(own_areas, peer_areas, [row.patient or row.file for row in test])
    print(
        f"{case.name:<16} {own:>8.1f} {peer:>8.1f} {peer / own:>7.2f}   "
        f"{own_auroc:.3f} / {peer_auroc:.3f}   {low:+.3f} to {high:+.3f}",
        flush=True,
    )
    line = {
        "bench": f"train/{case.name}",
        "ours": round(own, 3),
        "peer": round(peer, 3),
        "ratio": round(peer / own, 3),
        "unit": "s",
        "better": "lower",
        "pairs": case.pairs,
        "auroc": round(own_auroc, 4),
        "peer_auroc": round(peer_auroc, 4),
        "auroc_difference_95": [round(low, 4), round(high, 4)],
        "test_images": len(test),
        "size": case.size,
        "epochs": case.epochs,
    }
    return json.dumps(line, separators=(",", ":"))


def main() -> None:
    """Runs the cases whose names contain the second argument."""
    binary, wanted = Path(sys.argv[1]), sys.argv[2]
    # The server must not outlive this program.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.pop("DATABASE_URL", None)  # A database of the caller's would be written to.
    with tempfile.TemporaryDirectory(prefix="lvmed-bench.") as scratch:
        folder = Path(scratch)
        rows = draw(Path(os.environ["LVMED_TEST_DATA"]) / "cls_cxr3", folder)
        counts = Counter(row.split for row in rows)
        print(
            f"few-shot jobs: {counts['train']} images to learn from, {counts['test']} to judge by"
        )
        print(
            f"{'case':<16} {'ours, s':>8} {'PyTorch':>8} {'ratio':>7}   AUROC of both   difference"
        )
        lines = [compare(case, folder, rows, binary) for case in CASES if wanted in case.name]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
