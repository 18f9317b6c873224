"""What the settings of matching do to a network that has learnt: continued on another kind of
picture.

A random ResNet-18 learns from brain MRI, nuclei and blood cells, about a quarter of the pictures,
and is imported like anybody's. From there it goes on with X-rays, with and without message
passing and with the paper's noise or little of it, and is judged on held-out X-rays.
"""

from itertools import product
from pathlib import Path
from typing import Any

from pretraining.found import Found
from pretraining.methods import CALM, CONTROL
from pretraining.pictures import labelled, learnt_from, unlabelled
from pretraining.service import STILL, Service

START = "as imported"
XRAYS = ["chest X-rays", "PneumoniaMNIST"]
# The first learning of the network that is imported.
FIRST_EPOCHS = 20


def settings() -> dict[str, dict[str, Any]]:
    """Objectives by what they differ in; the first is the paper's."""
    found = {}
    for layers, scale in product((2, 0), (1.0, 0.05)):
        named = f"{'messages' if layers else 'no messages'}, noise {scale:g}"
        found[named] = {"kind": "matching", "message_layers": layers, "noise": {"scale": scale}}
    return found


def study(service: Service, source: Path, epochs: int, seeds: int) -> None:
    """All settings, from the network of each seed."""
    sets = labelled(source)
    first = learnt_from(sets, ["brain MRI"]) + unlabelled(source)
    second = learnt_from(sets, XRAYS)
    versions = [service.upload("first", first, False), service.upload("second", second, False)]
    tasks = {name: service.upload(name, sets[name], True) for name in XRAYS}
    print(f"{len(first)} images first, then {len(second)} X-rays for {epochs} epochs")
    found = Found()
    for seed in range(seeds):
        learnt = service.pretrain(
            versions[0], service.random(seed), seed, CALM, epochs=FIRST_EPOCHS
        )
        start = service.again(learnt, f"start {seed}")
        found.record(START, seed, service.probe(start, seed, tasks))
        control = service.pretrain(versions[1], start, seed, CALM, **STILL)
        found.record(CONTROL, seed, service.probe(control, seed, tasks))
        for name, objective in settings().items():
            with found.timed(name):
                backbone = service.pretrain(versions[1], start, seed, objective, epochs=epochs)
            found.record(name, seed, service.probe(backbone, seed, tasks))
    found.report("continued", [START, CONTROL, "messages, noise 1"])
