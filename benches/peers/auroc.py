"""Macro one-versus-rest AUROC, and its difference over resampled patients."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


class Areas:
    """The area under the ROC curve of each class, ready to be weighed anew for each resample."""

    def __init__(self, scores: Floats, truth: NDArray[np.integer]) -> None:
        """`scores` is [images, classes], `truth` [images] holds class numbers."""
        self._classes = []
        for label in range(scores.shape[1]):
            is_positive = truth == label
            positive, negative = scores[is_positive, label], scores[~is_positive, label]
            wins = (positive[:, None] > negative).astype(float)
            wins += 0.5 * (positive[:, None] == negative)
            self._classes.append((is_positive, wins))

    def macro(self, weights: Floats) -> float:
        """The mean over classes, each image counted as often as its weight says.

        A class without positive or without negative images is left out.
        """
        areas = []
        for is_positive, wins in self._classes:
            positive, negative = weights[is_positive], weights[~is_positive]
            if pairs := positive.sum() * negative.sum():
                areas.append(positive @ wins @ negative / pairs)
        return float(np.mean(areas))


def difference(
    ours: list[Areas], theirs: list[Areas], patients: list[str], resamples: int = 2000
) -> tuple[float, float]:
    """The 95 % percentile interval of the AUROC difference, ours less theirs, mean over the pairs.

    Both sides see the same resamples. Patients are drawn, not images: those of one patient are
    alike.
    """
    numbers, of_image = np.unique(patients, return_inverse=True)
    random = np.random.default_rng(0)
    found = []
    for _ in range(resamples):
        drawn = random.integers(len(numbers), size=len(numbers))
        weights = np.bincount(drawn, minlength=len(numbers))[of_image].astype(float)
        pairs = zip(ours, theirs, strict=True)
        found.append(np.mean([own.macro(weights) - peer.macro(weights) for own, peer in pairs]))
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)
