"""The server that a study asks: uploads, pretraining runs and the probes that judge backbones."""

import csv
import io
import json
import os
import signal
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.api import Api
from demo.server import Server
from demo.terminal import DemoError

from pretraining.pictures import Picture

SIZE = 64
SHOTS = 20
REPEATS = 5
LEARNING: dict[str, Any] = {
    "batch_size": 64,
    "optimiser": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup": 0.1,
}
# So small a rate leaves the weights where they are: what changes is what normalisation knows.
STILL: dict[str, Any] = {**LEARNING, "learning_rate": 1e-9, "weight_decay": 0.0, "epochs": 2}


@dataclass
class Service:
    """A running server, and the folder for what goes to it."""

    api: Api
    folder: Path
    binary: Path

    def upload(
        self, name: str, pictures: list[Picture], has_labels: bool, validation: float = 0
    ) -> str:
        """Uploads and freezes a dataset; the version's id."""
        packed = self.folder / "images.zip"
        with zipfile.ZipFile(packed, "w") as archive:
            for at, picture in enumerate(pictures):
                archive.writestr(f"{at:05}{Path(picture.name).suffix}", picture.content)
            if has_labels:
                table = io.StringIO()
                rows = csv.writer(table)
                rows.writerow(["file", "label", "patient", "split"])
                for at, picture in enumerate(pictures):
                    split = "test" if picture.held_out else "train"
                    file = f"{at:05}{Path(picture.name).suffix}"
                    rows.writerow([file, picture.label, picture.patient, split])
                archive.writestr("labels.csv", table.getvalue())
        dataset = self.api.post("/api/v1/datasets", {"name": name})["id"]
        path = f"/api/v1/datasets/{dataset}/uploads"
        report = self.api.upload(path, packed, {"file": packed.name})
        if report["rejected"]:
            raise SystemExit(f"not every image of {name} was taken: {report['rejected'][:3]}")
        asked = {"validation": validation, "include_unlabelled": not has_labels}
        return str(self.api.post(f"/api/v1/datasets/{dataset}/versions", asked)["id"])

    def finish(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Queues a run and waits for its end."""
        run = self.api.post("/api/v1/runs", asked)["id"]
        for _ in self.api.events(f"/api/v1/runs/{run}/events"):
            pass
        ended: dict[str, Any] = self.api.get(f"/api/v1/runs/{run}")
        if ended["status"] != "succeeded":
            raise SystemExit(f"the run {ended['status']}: {ended['error']}")
        return ended

    def random(self, seed: int, architecture: str = "resnet18") -> str:
        """Imports the random network of a seed; its id."""
        file = self.folder / f"random-{architecture}-{seed}.safetensors"
        command = [str(self.binary), "backbone", "random", "--architecture", architecture]
        subprocess.run([*command, "--seed", str(seed), "--out", str(file)], check=True)
        fields = {
            "name": f"random {architecture} {seed}",
            "source_url": "lvmed backbone random",
            "license": "none needed: random numbers",
            "size": str(SIZE),
        }
        return str(self.api.upload_form("/api/v1/backbones", fields, file)["id"])

    def again(self, backbone: str, name: str) -> str:
        """Imports a backbone's weights anew, as those of anybody; its id."""
        file = self.folder / f"{backbone}.safetensors"
        self.api.download(f"/api/v1/backbones/{backbone}/artifacts/model.safetensors", file)
        fields = {"name": name, "source_url": "this study", "license": "MIT", "size": str(SIZE)}
        return str(self.api.upload_form("/api/v1/backbones", fields, file)["id"])

    def pretrain(
        self, pool: str, backbone: str, seed: int, objective: dict[str, Any], **learning: Any
    ) -> str:
        """Pretrains a backbone; the id of the new one."""
        asked = {
            "kind": "pretrain",
            "dataset_version": pool,
            "backbone": backbone,
            "seed": seed,
            "objective": objective,
            "views": {"flip": 0},
            "learning": {**LEARNING, **learning},
        }
        return str(self.finish(asked)["backbone"])

    def probe(self, backbone: str, seed: int, tasks: dict[str, str]) -> dict[str, float]:
        """The AUROC of each task, the mean over the repeats."""
        found = {}
        for task, version in tasks.items():
            asked = {
                "kind": "finetune",
                "method": "probe",
                "backbone": backbone,
                "dataset_version": version,
                "shots": SHOTS,
                "repeats": REPEATS,
                "seed": 100 * seed,
            }
            evaluation = self.finish(asked)["evaluation"]
            found[task] = float(evaluation["repeats"]["macro_auroc"]["mean"])
        return found


def serve(binary: Path, study: Callable[[Service], None]) -> None:
    """Runs a study on a server of its own."""
    # The server must not outlive this program.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.pop("DATABASE_URL", None)  # A database of the caller's would be written to.
    with tempfile.TemporaryDirectory(prefix="lvmed-bench.", dir="/var/tmp") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)  # The built-in Postgres runs as another user when this is root.
        (folder / "demo").mkdir()
        server = Server(binary, folder)
        try:
            study(Service(server.start(), folder, binary))
        except DemoError as error:
            raise SystemExit(f"{error}\nthe server's log ends:\n{server.log_tail()}") from error
        finally:
            server.stop()


def said(values: dict[str, Any]) -> str:
    """A JSON line."""
    return json.dumps(values, separators=(",", ":"))
