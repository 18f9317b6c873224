#!/usr/bin/env python3
"""Writes losses and gradients of the pretraining objectives, computed by PyTorch in 64 bits.

Needs torch and nothing else:  python scripts/objective_reference.py

Each objective is written from its paper with loops where the paper has sums, so that it shares no
short cut with the Rust one. Features and weights are not stored: `draw` makes them from a name.
"""

import json
import math
from pathlib import Path

import torch
from torch.nn import functional as F
from torch_fixtures import summary
from torch_reference import draw, parameters

FOLDER = Path(__file__).resolve().parent.parent / "src/tests/fixtures/objectives"
IMAGES, EMBEDDING, MAP, HIDDEN = 5, 6, 4, 7
BATCHES = 2


def layers(prefix, widths, between):
    """Name every tensor of a projector with its shape."""
    shapes = {}
    for layer, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        shapes[f"{prefix}.{layer}.weight"] = (outputs, inputs)
        if between != "norm":
            shapes[f"{prefix}.{layer}.bias"] = (outputs,)
        elif layer + 2 < len(widths):
            shapes[f"{prefix}.{layer}.norm.weight"] = (outputs,)
            shapes[f"{prefix}.{layer}.norm.bias"] = (outputs,)
    return shapes


def project(p, prefix, count, between, x):
    """Apply a projector to rows."""
    for layer in range(count):
        name = f"{prefix}.{layer}"
        x = F.linear(x, p[f"{name}.weight"], p.get(f"{name}.bias"))
        if layer + 1 == count:
            break
        if between == "gelu":
            x = F.gelu(x)
            continue
        if between == "norm":
            scale, shift = p[f"{name}.norm.weight"], p[f"{name}.norm.bias"]
            x = F.batch_norm(x, None, None, scale, shift, training=True)
        x = F.relu(x)
    return x


class View:
    """What a backbone makes of a view, as leaves of the graph."""

    def __init__(self, number, batch, side):
        name = f"{batch}/view/{number}"
        self.embedding = draw(f"{name}/embedding", (IMAGES, EMBEDDING)).requires_grad_()
        self.map = draw(f"{name}/map", (IMAGES, MAP, side, side)).requires_grad_()
        self.side = side
        flips = draw(f"{name}/flip", (IMAGES,)) > 0
        corners = draw(f"{name}/corner", (IMAGES, 2), 20.0, 30.0)
        sizes = draw(f"{name}/size", (IMAGES, 2), 30.0, 80.0)
        self.crops = [
            (*corner, *size, flip)
            for corner, size, flip in zip(
                corners.tolist(), sizes.tolist(), flips.tolist(), strict=True
            )
        ]

    def places(self):
        """Centres of the cells in the picture, [B, side * side, 2]."""
        images = []
        for top, left, height, width, flip in self.crops:
            cells = []
            for row in range(self.side):
                for column in range(self.side):
                    across = self.side - 1 - column if flip else column
                    y = top + height / (2 * self.side) + row * height / self.side
                    x = left + width / (2 * self.side) + across * width / self.side
                    cells.append([y, x])
            images.append(cells)
        return torch.tensor(images)


class SimClr:
    """Chen et al. 2020, Eq. 1."""

    sides = (1, 1)
    shapes = layers("objective.projector", [EMBEDDING, HIDDEN, 4], "relu")
    temperature = 0.3

    def loss(self, p, _teacher, views, _taught):
        """Go through every view of the batch and every other one."""
        embeddings = torch.cat([view.embedding for view in views[:2]])
        z = project(p, "objective.projector", 2, "relu", embeddings)
        total = 0.0
        for i in range(2 * IMAGES):
            similar = {
                k: torch.exp(F.cosine_similarity(z[i], z[k], dim=0) / self.temperature)
                for k in range(2 * IMAGES)
                if k != i
            }
            total = total - torch.log(similar[(i + IMAGES) % (2 * IMAGES)] / sum(similar.values()))
        return total / (2 * IMAGES)


class Barlow:
    """Zbontar et al. 2021, Eq. 1 and 2."""

    sides = (1, 1)
    redundancy = 0.02

    def __init__(self, output):
        widths = [EMBEDDING, HIDDEN, HIDDEN, output]
        self.shapes = layers("objective.projector", widths, "norm")

    def loss(self, p, _teacher, views, _taught):
        """Go through every entry of the cross-correlation."""
        a, b = (
            F.batch_norm(
                project(p, "objective.projector", 3, "norm", view.embedding),
                None,
                None,
                training=True,
            )
            for view in views[:2]
        )
        total = 0.0
        for i in range(a.shape[1]):
            for j in range(a.shape[1]):
                entry = (a[:, i] * b[:, j]).mean()
                total = total + ((1 - entry) ** 2 if i == j else self.redundancy * entry**2)
        return total


class Vicregl:
    """Bardes et al. 2022, section 3."""

    alpha, gamma = 0.75, 4
    weights = (25.0, 20.0, 1.5)

    def __init__(self, sides, output):
        self.sides = sides
        self.shapes = {
            **layers("objective.projector", [EMBEDDING, HIDDEN, HIDDEN, output], "norm"),
            **layers("objective.cells", [MAP, HIDDEN, HIDDEN, output], "norm"),
        }

    def variance(self, x):
        """Tell how far channels are from a deviation of one; x is [B, C]."""
        return F.relu(1 - torch.sqrt(x.var(0) + 1e-4)).mean()

    def covariance(self, x):
        """Sum the squares of the covariances of different channels."""
        matrix = torch.cov(x.T)
        off = matrix - torch.diag(torch.diagonal(matrix))
        return off.pow(2).sum() / x.shape[1]

    def criterion(self, x, y):
        """Apply VICReg place by place to x and y, [B, n, C]."""
        invariance, variance, covariance = self.weights
        places = x.shape[1]
        total = invariance * F.mse_loss(x, y)
        for side in (x, y):
            for place in range(places):
                total = total + variance * self.variance(side[:, place]) / (2 * places)
                total = total + covariance * self.covariance(side[:, place]) / (2 * places)
        return total

    def matched(self, x, y, distances, kept):
        """Pick the nearest cell of each cell, for the `kept` cells that are nearest to theirs."""
        ours, theirs = [], []
        for image in range(IMAGES):
            nearest = distances[image].min(1)
            chosen = sorted(nearest.values.argsort()[:kept].tolist())
            ours.append(x[image, chosen])
            theirs.append(y[image, nearest.indices[chosen]])
        return torch.stack(ours), torch.stack(theirs)

    def loss(self, p, _teacher, views, _taught):
        """Add the criteria of whole views and of cells."""
        invariance, variance, covariance = self.weights
        z = [project(p, "objective.projector", 3, "norm", view.embedding) for view in views]
        cells = [
            project(
                p,
                "objective.cells",
                3,
                "norm",
                view.map.flatten(2).transpose(1, 2).reshape(-1, MAP),
            ).reshape(IMAGES, view.side**2, -1)
            for view in views
        ]
        pairs = [(i, j) for i in range(2) for j in range(len(views)) if j != i]
        whole = sum(invariance * F.mse_loss(z[i], z[j]) for i, j in pairs) / len(pairs)
        for each in z:
            spread = variance * self.variance(each) + covariance * self.covariance(each)
            whole = whole + spread / len(z)
        local = 0.0
        for i, j in pairs:
            small = min(views[i].side, views[j].side) ** 2
            kept = math.ceil(self.gamma * small / views[0].side ** 2)
            for a, b in ((i, j), (j, i)):
                near = torch.cdist(views[a].places(), views[b].places())
                alike = torch.cdist(cells[a].detach(), cells[b].detach())
                by_place = self.matched(cells[a], cells[b], near, kept)
                by_look = self.matched(cells[a], cells[b], alike, views[a].side ** 2)
                local = local + (self.criterion(*by_place) + self.criterion(*by_look)) / 2
        return self.alpha * whole + (1 - self.alpha) * local / len(pairs)


class Moco:
    """He et al. 2020, Eq. 1, in both directions."""

    sides = (1, 1)
    shapes = layers("objective.projector", [EMBEDDING, HIDDEN, 4], "relu")
    temperature = 0.2
    size = 16

    def __init__(self):
        self.queue = list(F.normalize(draw("queue", (self.size, 4)), dim=1))

    def loss(self, p, teacher, views, taught):
        """Contrast both views with the queue, then move the queue on."""

        def head(weights, x):
            return F.normalize(project(weights, "objective.projector", 2, "relu", x), dim=1)

        queries = [head(p, view.embedding) for view in views[:2]]
        keys = [head(teacher, x).detach() for x in taught]
        total = 0.0
        for q, k in ((queries[0], keys[1]), (queries[1], keys[0])):
            for image in range(IMAGES):
                logits = torch.stack([q[image] @ k[image], *(q[image] @ old for old in self.queue)])
                total = total - F.log_softmax(logits / self.temperature, 0)[0] / (2 * IMAGES)
        self.queue = [*self.queue, *keys[0], *keys[1]][-self.size :]
        return total


class Dino:
    """Caron et al. 2021, Eq. 1, 3 and 4."""

    sides = (1, 1, 1)
    output = 8
    shapes = {
        **layers("objective.head", [EMBEDDING, HIDDEN, HIDDEN, 4], "gelu"),
        "objective.prototypes.weight": (output, 4),
    }
    temperature, teacher_temperature, centre_momentum = 0.1, 0.05, 0.8

    def __init__(self):
        self.centre = torch.zeros(self.output)

    def loss(self, p, teacher, views, taught):
        """Let every view predict the large views but itself, then move the centre."""

        def logits(weights, x):
            bottleneck = F.normalize(project(weights, "objective.head", 3, "gelu", x), dim=1)
            return bottleneck @ F.normalize(weights["objective.prototypes.weight"], dim=1).T

        outputs = [logits(teacher, x).detach() for x in taught]
        total, pairs = 0.0, 0
        for t, output in enumerate(outputs):
            target = F.softmax((output - self.centre) / self.teacher_temperature, 1)
            for s, view in enumerate(views):
                if s != t:
                    guess = F.log_softmax(logits(p, view.embedding) / self.temperature, 1)
                    total = total - (target * guess).sum(1).mean()
                    pairs += 1
        mean = torch.cat(outputs).mean(0)
        self.centre = self.centre_momentum * self.centre + (1 - self.centre_momentum) * mean
        return total / pairs


def record(objective):
    """Record the losses and gradients of successive batches."""
    p = {name: tensor.requires_grad_() for name, tensor in parameters(objective.shapes).items()}
    named = parameters({f"teacher/{name}": shape for name, shape in objective.shapes.items()})
    teacher = {name.removeprefix("teacher/"): tensor for name, tensor in named.items()}
    batches = []
    for batch in range(BATCHES):
        views = [View(number, batch, side) for number, side in enumerate(objective.sides)]
        taught = [draw(f"{batch}/taught/{at}", (IMAGES, EMBEDDING)) for at in range(2)]
        for tensor in p.values():
            tensor.grad = None
        loss = objective.loss(p, teacher, views, taught)
        loss.backward()
        found = dict(p)
        for number, view in enumerate(views):
            found[f"view/{number}/embedding"] = view.embedding
            found[f"view/{number}/map"] = view.map
        gradients = {
            name: summary(tensor.grad) for name, tensor in found.items() if tensor.grad is not None
        }
        crops = [view.crops for view in views]
        batches.append({"crops": crops, "loss": loss.item(), "gradients": gradients})
    return {"sides": list(objective.sides), "batches": batches}


def main():
    """Write a file for each objective."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    objectives = {
        "simclr": SimClr(),
        "barlow_few": Barlow(4),
        "barlow_many": Barlow(9),
        "vicregl": Vicregl((3, 3), 8),
        "vicregl_small": Vicregl((3, 3, 2), 3),
        "moco": Moco(),
        "dino": Dino(),
    }
    for name, objective in objectives.items():
        text = json.dumps(record(objective))
        (FOLDER / f"{name}.json").write_text(f"{text}\n")


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    main()
