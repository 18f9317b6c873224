"""What each objective makes of the same images at equal compute, from random weights.

Every objective starts from the same random ResNet-18 of a seed, sees the same number of pictures
and is optimised alike. Two rows learn nothing: the network as it is, and with the statistics of
its normalisation estimated anew on the same pictures, which pretraining does as well.
"""

from pathlib import Path
from typing import Any

from pretraining.found import Found
from pretraining.pictures import labelled, learnt_from, unlabelled
from pretraining.service import STILL, Service

# From random weights neighbours are found by chance, and message passing then mixes up what should
# be told apart; and noise of scale 1 is louder than the affinities. So the one is left out and the
# other small, and what the paper has is a method of its own.
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
CONTROL = "normalisation statistics alone"


def study(service: Service, source: Path, wanted: list[str], epochs: int, seeds: int) -> None:
    """Methods whose names have a wanted part, from the random network of each seed."""
    sets = labelled(source)
    pool = learnt_from(sets, list(sets)) + unlabelled(source)
    version = service.upload("pool", pool, False)
    tasks = {name: service.upload(name, pictures, True) for name, pictures in sets.items()}
    held_out = sum(picture.held_out for pictures in sets.values() for picture in pictures)
    print(f"{len(pool)} images to learn from, {held_out} held out, {epochs} epochs")
    found = Found()
    for seed in range(seeds):
        random = service.random(seed)
        found.record(RANDOM, seed, service.probe(random, seed, tasks))
        control = service.pretrain(version, random, seed, CALM, **STILL)
        found.record(CONTROL, seed, service.probe(control, seed, tasks))
        for method, objective in {**METHODS, **(VARIANTS if seed == 0 else {})}.items():
            if not any(part in method for part in wanted):
                continue
            with found.timed(method):
                backbone = service.pretrain(version, random, seed, objective, epochs=epochs)
            found.record(method, seed, service.probe(backbone, seed, tasks))
    found.report("pretraining", [RANDOM, CONTROL, "first-order matching"])
