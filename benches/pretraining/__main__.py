"""Two small studies of pretraining: objectives from random weights, settings from a learnt network.

The images come from `$LVMED_TEST_DATA`, their labels put aside: chest X-rays (`cls_cxr3`), brain
MRI (`cls_brainmri2`), PneumoniaMNIST (`cls_pneumoniamnist`), nuclei (`seg_nuclei`) and blood
cells (`det_bccd`). A fixed part of the three labelled sets is held out: drawn by the hash of the
patient, else of the image. It is never shown to pretraining, and a probe on the frozen backbone
is judged by it, some training images a class, several times on other ones. The server does all of
it: uploads, runs and probes go over HTTP.

    make bench-pretraining                 # both studies: hours on two cores
    make bench-pretraining ARGS=continued  # the second alone
    make bench-pretraining ARGS=order      # the first with the methods whose names have this part
    make bench-pretraining ARGS=quick      # two epochs and one seed of the first, to try it out
"""

import os
import sys
from pathlib import Path

from pretraining import continued, methods
from pretraining.service import serve


def main() -> None:
    """Runs the studies that the second argument asks for."""
    binary, wanted = Path(sys.argv[1]), sys.argv[2]
    source = Path(os.environ["LVMED_TEST_DATA"])
    quick = wanted == "quick"

    def asked(name: str, usual: int, least: int) -> int:
        return least if quick else int(os.environ.get(name, usual))

    if wanted != "continued":
        parts = [""] if quick else wanted.split(",")
        epochs, seeds = asked("LVMED_STUDY_EPOCHS", 20, 2), asked("LVMED_STUDY_SEEDS", 5, 1)
        serve(binary, lambda service: methods.study(service, source, parts, epochs, seeds))
    if wanted in ("", "continued"):
        epochs, seeds = asked("LVMED_STUDY_EPOCHS", 8, 2), asked("LVMED_STUDY_SEEDS", 3, 1)
        serve(binary, lambda service: continued.study(service, source, epochs, seeds))


if __name__ == "__main__":
    main()
