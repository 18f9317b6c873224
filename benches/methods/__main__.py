"""Whether training the network ends worse than the head it starts from, with few labels.

`last`, `full` and `lora` start from a head fitted on frozen features. Each is compared with that
start, on the same training and test pictures: the start is what `last` publishes with a rate so
small that nothing moves. Pictures are chest X-rays (`cls_cxr3`) and brain MRI (`cls_brainmri2`)
of `$LVMED_TEST_DATA`, of which a fixed part is held out for judging; of the others 15 % are
validated by, and so many of each class are drawn, anew for each draw. The ResNet-18 has been
pretrained on the X-rays; the ViT-B of `lora` is a random one.

    make bench-methods  # five draws; LVMED_BENCH_DRAWS says how many
"""

import os
import statistics
import sys
from pathlib import Path
from typing import Any

from pretraining.found import interval
from pretraining.methods import CALM
from pretraining.pictures import labelled, learnt_from
from pretraining.service import Service, said, serve

SHOTS = [5, 10, 20]
VALIDATION = 0.15
PRETRAINING_EPOCHS = 8
# A rate at which weights stay where they are.
STILL: dict[str, Any] = {"method": "last", "training": {"epochs": 1, "learning_rate": 1e-9}}
METHODS: dict[str, list[str]] = {"resnet18": ["last", "full"], "sam_vit_b": ["lora"]}
TASKS: dict[str, list[str]] = {
    "resnet18": ["chest X-rays", "brain MRI"],
    "sam_vit_b": ["brain MRI"],
}

Scores = tuple[float, float]


def judged(service: Service, asked: dict[str, Any]) -> Scores:
    """AUROC and log loss of a run."""
    evaluation = service.finish({"kind": "finetune", **asked})["evaluation"]
    return float(evaluation["macro_auroc"]["value"]), float(evaluation["log_loss"]["value"])


def report(name: str, pairs: list[tuple[Scores, Scores]]) -> str:
    """Prints the means with differences; a JSON line."""
    areas = [own[0] - start[0] for start, own in pairs]
    losses = [own[1] - start[1] for start, own in pairs]
    before, after = (statistics.mean(pair[at][0] for pair in pairs) for at in (0, 1))
    print(
        f"{name:<32} {before:.3f} {after:.3f}  {interval(areas):>16} {interval(losses):>16}",
        flush=True,
    )
    line = {
        "bench": f"methods/{name}",
        "ours": round(after, 4),
        "peer": round(before, 4),
        "difference": interval(areas),
        "unit": "auroc",
        "better": "higher",
        "draws": len(pairs),
    }
    return said(line)


def study(service: Service, source: Path, draws: int) -> None:
    """Every method on every task with every number of shots."""
    sets = labelled(source)
    tasks = {name: service.upload(name, sets[name], True, VALIDATION) for name in TASKS["resnet18"]}
    pool = service.upload("pool", learnt_from(sets, ["chest X-rays"]), False)
    epochs = PRETRAINING_EPOCHS
    backbones = {
        "resnet18": service.pretrain(pool, service.random(0), 0, CALM, epochs=epochs),
        "sam_vit_b": service.random(0, "sam_vit_b"),
    }
    lines = []
    print(f"{'set/method/shots':<32} start after  {'AUROC':>16} {'log loss':>16}")
    for architecture, methods in METHODS.items():
        for task in TASKS[architecture]:
            for shots in SHOTS:
                found: dict[str, list[tuple[Scores, Scores]]] = {}
                for draw in range(draws):
                    asked = {
                        "backbone": backbones[architecture],
                        "dataset_version": tasks[task],
                        "shots": shots,
                        "seed": draw,
                    }
                    start = judged(service, {**asked, **STILL})
                    for method in methods:
                        after = judged(service, {**asked, "method": method})
                        found.setdefault(method, []).append((start, after))
                for method, pairs in found.items():
                    lines.append(report(f"{task.replace(' ', '-')}/{method}/{shots}", pairs))
    print("\n" + "\n".join(lines))


def main() -> None:
    """Runs the study."""
    binary, source = Path(sys.argv[1]), Path(os.environ["LVMED_TEST_DATA"])
    draws = int(os.environ.get("LVMED_BENCH_DRAWS", "5"))
    serve(binary, lambda service: study(service, source, draws))


if __name__ == "__main__":
    main()
