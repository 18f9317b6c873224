"""The demo's story, from an empty server to a checked model.

Run by `make demo`, which sets up what it needs. Environment: `DATA` (own labelled folder or ZIP),
`KEEP=1` (leave the server running), `LVMED_DEMO_WEIGHTS` (own backbone), `LVMED_DEMO_BACKBONE`
(`astra` or `dinov2`), `SHOTS` (training images per class), `LVMED_DEMO_PICTURES` (most pictures of
`DATA`).
"""

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import check, drawn, modalities, own, weights
from .api import Api
from .pictures import Plan, pack
from .server import Server
from .terminal import Bar, DemoError, Steps, megabytes, say, table

METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_auroc": "AUROC (macro)",
    "macro_auprc": "AUPRC (macro)",
    "macro_f1": "F1 (macro)",
    "brier": "Brier score",
    "log_loss": "log loss",
}
# Training images per class that are asked for; a set with fewer is used whole.
FEW_SHOTS = 8
MOST_SHOTS = 16
# Below this many test patients, an accuracy says little.
FEW_PATIENTS = 30
# Half of the pictures that the demo draws are judged: these cost nothing.
DRAWN_TEST = 0.5
REJECTED_SHOWN = 8


def main() -> int:
    """Runs the demo; the exit status."""
    parser = argparse.ArgumentParser(prog="demo")
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = Server(arguments.binary, arguments.root / ".runtime")
    status = 1
    try:
        steps = Steps()
        with steps.step("Starting lvmed serve, with no configuration"):
            api = server.start()
            say(f"    {api.address}, data in {server.data}")
        story(steps, api, arguments.binary, arguments.root)
        status = 0
    except DemoError as error:
        say(f"\nThe demo failed: {error}")
    except KeyboardInterrupt:
        say("\nStopped.")
        status = 130
    except Exception:  # noqa: BLE001 - shown in full; the server must not outlive the demo
        traceback.print_exc()
    if status == 1:
        say(f"\nThe end of {server.log}:\n{server.log_tail()}")
    if is_kept() and status == 0:
        say(f"\nThe server is still running: {api.address}/")
        say(f"Stop it with: kill {server.pid}")
    else:
        server.stop()
    return status


def is_kept() -> bool:
    """Whether the server is to be left running."""
    return os.environ.get("KEEP", "") not in ("", "0")


def story(steps: Steps, api: Api, binary: Path, root: Path) -> None:
    """Import, upload, freeze, fine-tune, evaluate, download, predict, check."""
    output = root / "demo-output"

    with steps.step("Importing a backbone"):
        source = weights.find(root / ".runtime", binary)
        backbone = api.upload_form("/api/v1/backbones", source.fields, source.file)
        say(f"    {source.about}")
        parity = backbone["parity"]["max_relative_difference"]
        say(f"    {backbone['architecture']}, {backbone['parameters'] / 1e6:.1f} million weights;")
        say(f"    ONNX Runtime and the training code agree on it within {parity:.1e}")

    data = os.environ.get("DATA")
    plan = own.plan(Path(data).expanduser()) if data else modalities.plan()
    told = learn(steps, api, backbone, plan, 0.3)

    with steps.step("Downloading the checkpoint"):
        model = api.get(f"/api/v1/models/{told.run['model']}")
        files = check.download(api, model, output)
        say(f"    {len(files)} files, every length and SHA-256 as announced")

    with steps.step("Predicting on files that were never uploaded"):
        answers = check.predict(api, model["id"], plan.held_back)
        show_answers(answers)

    with steps.step("Checking the downloaded model.onnx without the server"):
        difference = check.compare(output, answers)
        say("    pydicom, NumPy, Pillow and ONNX Runtime in Python, on the same files:")
        say(f"    probabilities differ by {difference:.1e} at most ({check.TOLERANCE:g} allowed)")

    all_told = [told]
    if told.evaluation["patients"] < FEW_PATIENTS and not data:
        say("\nSo few test patients show that it works, not how well. Once more, therefore, on")
        say("pictures that the demo draws itself, of which there are enough:")
        all_told.append(learn(steps, api, backbone, drawn.plan(), DRAWN_TEST))

    say("\n" + "=" * 78)
    say(f"Backbone   {source.about}")
    for found in all_told:
        summarise(api, found)
    if answers:
        right = sum(answer.is_right for answer in answers)
        say(f"Held back  {right} of {len(answers)} pictures right, never uploaded before")
    say("Files")
    for file in files:
        name = file.path.relative_to(root)
        say(f"    {name}  {megabytes(file.size_bytes)}\n        sha256 {file.sha256}")
    say("Times")
    total = sum(seconds for _, seconds in steps.taken)
    table([[title, f"{seconds:.1f} s"] for title, seconds in [*steps.taken, ("all", total)]])


@dataclass
class Told:
    """A plan that was learnt from, the run, and what it was found to be worth."""

    plan: Plan
    run: dict[str, Any]

    @property
    def evaluation(self) -> dict[str, Any]:
        """The run's evaluation."""
        found: dict[str, Any] = self.run["evaluation"]
        return found


def learn(steps: Steps, api: Api, backbone: dict[str, Any], plan: Plan, test: float) -> Told:
    """Upload, freeze, fine-tune, evaluate."""
    with steps.step("Uploading labelled images"):
        dataset = upload(api, plan)

    with steps.step("Freezing a dataset version"):
        # A probe chooses its settings by cross-validation and needs no validation images.
        shares = {"seed": 0, "validation": 0, "test": test}
        version = api.post(f"/api/v1/datasets/{dataset['id']}/versions", shares)
        show_version(version)

    with steps.step("Fine-tuning, few-shot"):
        run = fine_tune(api, version, backbone)

    with steps.step("Evaluating on patients that training never saw"):
        show_evaluation(run["evaluation"])
    return Told(plan, run)


def summarise(api: Api, told: Told) -> None:
    """What the numbers are, beside those that need no backbone, and where to look at them."""
    evaluation = told.evaluation
    images, patients = evaluation["images"], evaluation["patients"]
    say(f"\nImages     {told.plan.about}")
    say(f"Accuracy   {estimate(evaluation['accuracy'])}")
    say(f"           with its 95 % interval, over {images} images of {patients} patients")
    if patients < FEW_PATIENTS:
        say("           so few patients show that it works, not how well: read the interval")
    if area := evaluation["macro_auroc"]:
        say(f"AUROC      {estimate(area)}")
        for floor in evaluation["baselines"]:
            if lowest := floor["macro_auroc"]:
                say(f"           {lowest['value']:.3f} by {floor['about']}")
    show_confusion(evaluation)
    say(f"Page       {api.address}/#/runs/{told.run['id']}")
    if not is_kept():
        say("           gone when the demo ends; KEEP=1 make demo leaves it there")


def upload(api: Api, plan: Plan) -> dict[str, Any]:
    """Creates a dataset, sends the archive, shows what became of it."""
    say(f"    {plan.about}")
    for note in plan.notes:
        say(f"    {note}")
    table(plan.counts())
    name = f"Demo {time.strftime('%Y-%m-%d %H:%M:%S')}"
    dataset: dict[str, Any] = api.post("/api/v1/datasets", {"name": name})
    with tempfile.TemporaryDirectory(prefix="lvmed-demo.") as scratch:
        archive = Path(scratch) / "images.zip"
        pack(plan, archive)
        uploads = f"/api/v1/datasets/{dataset['id']}/uploads"
        report = api.upload(uploads, archive, {"file": archive.name})
        size = archive.stat().st_size
    say(f"    sent {megabytes(size)}: {report['files']} files kept, {report['images']} images,")
    say(f"    {report['duplicates']} duplicates, {report['rejected_total']} files rejected:")
    for rejected in report["rejected"][:REJECTED_SHOWN]:
        say(f"      {rejected['file']}: {rejected['reason'].splitlines()[0]}")
    if (more := report["rejected_total"] - REJECTED_SHOWN) > 0:
        say(f"      and {more} more")
    for note in report["notices"]:
        say(f"    note: {note}")
    if first := next(iter(report["receipt"]), None):
        say(f"    names of files are not kept: {first['file']} is now {first['name']}")
    return dataset


def show_version(version: dict[str, Any]) -> None:
    """The digest and the split."""
    say(f"    version {version['number']}, digest {version['digest'][:16]}…")
    rows = [["split", "images", "patients", *version["labels"]]]
    for split, counts in version["splits"].items():
        classes = [str(counts["classes"].get(label, 0)) for label in version["labels"]]
        rows.append([split, str(counts["images"]), str(counts["patients"]), *classes])
    table(rows)
    for note in version["notices"]:
        say(f"    note: {note}")


def fine_tune(api: Api, version: dict[str, Any], backbone: dict[str, Any]) -> dict[str, Any]:
    """Queues a probe run and follows its events to the end."""
    training = version["splits"]["train"]
    smallest = min(training["classes"].get(label, 0) for label in version["labels"])
    recipe = {
        "kind": "finetune",
        "method": "probe",
        "dataset_version": version["id"],
        "backbone": backbone["id"],
        "seed": 0,
        "random_baseline": True,
    }
    if given := os.environ.get("SHOTS"):
        recipe["shots"] = int(given)
    elif smallest >= FEW_SHOTS:
        recipe["shots"] = min(smallest, MOST_SHOTS)
    shots = recipe.get("shots")
    images = f"{shots} images per class" if shots else f"all {training['images']} training images"
    say(f"    a linear classifier on frozen features, {images}")
    run = api.post("/api/v1/runs", recipe)
    bar = Bar()
    for event in api.events(f"/api/v1/runs/{run['id']}/events"):
        if event["event"] == "progress":
            progress = event["progress"]
            detail = f"{progress['done']}/{progress['total']}"
            if progress.get("eta_seconds") is not None:
                detail += f", {progress['eta_seconds']:.0f} s left"
            bar.show(progress["stage"], progress["fraction"], detail)
    bar.end()
    finished: dict[str, Any] = api.get(f"/api/v1/runs/{run['id']}")
    if finished["status"] != "succeeded":
        raise DemoError(f"the run {finished['status']}: {finished['error']}")
    return finished


def show_evaluation(evaluation: dict[str, Any]) -> None:
    """Every number with its interval, then the confusion matrix."""
    rows = [["metric", "value", "95 % interval"]]
    for key, name in METRICS.items():
        if found := evaluation.get(key):
            interval = f"{found['low']:.3f} to {found['high']:.3f}"
            rows.append([name, f"{found['value']:.3f}", interval])
    table(rows)
    ece = evaluation["ece"]
    say(
        f"    calibration error {ece['value']:.3f}; perfectly honest probabilities would show "
        f"{ece['by_chance']:.3f} on so few images"
    )
    for floor in evaluation["baselines"]:
        if area := floor["macro_auroc"]:
            say(f"    for comparison, {floor['about']}: AUROC {area['value']:.3f}")
    say()
    show_confusion(evaluation)
    for note in evaluation["notices"]:
        say(f"    note: {note}")


def show_confusion(evaluation: dict[str, Any]) -> None:
    """The confusion matrix."""
    labels = evaluation["labels"]
    say("    confusion matrix: rows are the truth, columns the prediction")
    matrix = [["", *labels]]
    for label, counts in zip(labels, evaluation["confusion"], strict=True):
        matrix.append([label, *map(str, counts)])
    table(matrix)


def show_answers(answers: list[check.Answer]) -> None:
    """Each prediction beside the truth."""
    if not answers:
        say("    nothing was held back")
        return
    rows = [["file", "truth", "prediction", "probability", ""]]
    for answer in answers:
        name = answer.item.name + (f" frame {answer.frame}" if answer.frame else "")
        sure = f"{answer.probabilities[answer.label]:.3f}"
        verdict = "right" if answer.is_right else "wrong"
        rows.append([name, answer.item.label, answer.label, sure, verdict])
    table(rows)


def estimate(found: dict[str, float]) -> str:
    """A value with its interval."""
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


if __name__ == "__main__":
    sys.exit(main())
