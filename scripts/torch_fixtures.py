#!/usr/bin/env python3
"""Writes the numbers that the Rust layers are held against, computed by PyTorch in 64 bits.

Needs torch and nothing else:  python scripts/torch_fixtures.py

Inputs and weights are not stored: `draw` of torch_reference.py makes them from a name. Of
each result the shape, the sum, the norm and a few values are stored.
"""

import json
from pathlib import Path

import torch
from torch.nn import functional as F
from torch_reference import (
    attend,
    distances,
    draw,
    parameters,
    resnet,
    resnet_shapes,
    vit,
    vit_shapes,
)

torch.set_default_dtype(torch.float64)
torch.set_num_threads(2)
FOLDER = Path(__file__).resolve().parent.parent / "src/tests/fixtures/torch"
LEARNING_RATE = 1e-3
# Large against the noise of gradients that are zero in exact arithmetic (the bias of keys, say),
# and steps small: PyTorch itself in 32 bits then stays within 2e-5 of what it computes in 64.
ADAM_EPSILON = 1e-2
PICTURES_TRIED = 40


def summary(tensor, samples=8):
    """Tell a tensor by its shape, sum, norm and some values, evenly spread."""
    flat = tensor.detach().flatten()
    step = max(1, len(flat) // samples)
    return {
        "shape": list(tensor.shape),
        "sum": flat.sum().item(),
        "norm": flat.norm().item(),
        "values": flat[::step][:samples].tolist(),
    }


def weighed(out):
    """Weigh every output differently, so that no gradient can hide in a sum."""
    return (out * draw("weigh", out.shape)).sum()


OPTIMISERS = {
    "adamw": lambda p: torch.optim.AdamW(p, LEARNING_RATE, eps=ADAM_EPSILON, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, LEARNING_RATE, eps=ADAM_EPSILON),
    "sgd": lambda p: torch.optim.SGD(p, LEARNING_RATE, momentum=0.9),
}


def clearest(shapes, kind, train, batch):
    """Choose pictures for which no value is near the kink of ReLU or a tie of pooling.

    There the gradient jumps, and rounding to 32 bits decides which way.
    """
    p = parameters(shapes)

    def margin(name):
        margins = []
        with torch.no_grad():
            resnet(p, draw(name, batch), *kind, train, margins)
        return min(margins)

    return max((f"images/{at}" for at in range(PICTURES_TRIED)), key=margin)


def network(shapes, forward, features, pictures, optimisers, samples=8):
    """Record loss, gradients and three steps of a classification of drawn pictures."""
    shapes = {**shapes, "fc.weight": (3, features), "fc.bias": (3,)}
    x = draw(*pictures)
    labels = torch.arange(len(x)) % 3

    def start():
        p = parameters(shapes)
        trained = {name: t for name, t in p.items() if "running_" not in name}
        return p, {name: t.requires_grad_() for name, t in trained.items()}

    def loss(p):
        return F.cross_entropy(F.linear(forward(p, x), p["fc.weight"], p["fc.bias"]), labels)

    p, trained = start()
    value = loss(p)
    value.backward()
    grads = {name: t.grad for name, t in trained.items() if t.grad is not None}
    record = {
        "pictures": {"name": pictures[0], "shape": pictures[1]},
        "embedding": summary(forward(p, x), samples),
        "loss": value.item(),
        "gradients": {name: summary(grad, samples) for name, grad in grads.items()},
        "steps": {},
    }
    for kind in optimisers:
        p, trained = start()
        optimiser = OPTIMISERS[kind](list(trained.values()))
        losses = []
        for _ in range(3):
            optimiser.zero_grad()
            value = loss(p)
            value.backward()
            optimiser.step()
            losses.append(value.item())
        after = {name: summary(trained[name], samples) for name in grads}
        record["steps"][kind] = {"losses": losses, "weights": after}
    return record


def write(name, record):
    """Write a fixture, numbers to as many digits as they have."""
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(record, separators=(",", ":"), sort_keys=True) + "\n")
    print(f"{path}: {path.stat().st_size} bytes")


TINY_VIT = {
    "patch": 8,
    "dim": 24,
    "depth": 3,
    "hidden": 40,
    "heads": 3,
    "window": 3,
    "whole": (1,),
    "grid": 6,
    "neck": 16,
}
SAM_VIT_B = {
    "patch": 16,
    "dim": 768,
    "depth": 12,
    "hidden": 3072,
    "heads": 12,
    "window": 14,
    "whole": (2, 5, 8, 11),
    "grid": 64,
    "neck": 256,
}


def networks():
    """Record the small networks step by step and the full-size ones once."""
    small, large = ((2, 2, 2, 2), False), ((3, 4, 6, 3), True)
    everything = tuple(OPTIMISERS)

    def residual(kind, train):
        return lambda p, x: resnet(p, x, *kind, train)

    def transformer(kind):
        return lambda p, x: vit(p, x, **kind)[0]

    shapes, batch = resnet_shapes(*small), (8, 3, 32, 32)
    for train, optimiser in ((True, "adamw"), (False, "sgd")):
        pictures = (clearest(shapes, small, train, batch), batch)
        record = network(shapes, residual(small, train), 512, pictures, (optimiser,), 4)
        write("resnet18_" + ("train" if train else "frozen"), record)
    pictures = ("images", (4, 3, 64, 64))
    record = network(vit_shapes(**TINY_VIT), transformer(TINY_VIT), 24, pictures, everything)
    x, p = draw(*pictures), parameters(vit_shapes(**TINY_VIT))
    record["feature_map"] = summary(vit(p, x, **TINY_VIT)[1])
    write("small_vit", record)
    shapes, batch = resnet_shapes(*large), (4, 3, 32, 32)
    pictures = (clearest(shapes, large, False, batch), batch)
    write("resnet50", network(shapes, residual(large, False), 2048, pictures, (), 2))
    shapes, pictures = vit_shapes(**SAM_VIT_B), ("images", (2, 3, 64, 64))
    write("sam_vit_b", network(shapes, transformer(SAM_VIT_B), 768, pictures, (), 2))


def layer(forward, **inputs):
    """Record a layer's output and the gradients of its inputs, by their names."""
    tensors = {name: tensor.requires_grad_() for name, tensor in inputs.items()}
    out = forward(**tensors)
    (weighed(out) if out.dim() else out).backward()
    gradients = {name: summary(tensor.grad) for name, tensor in tensors.items()}
    return {"out": summary(out), "gradients": gradients}


def convolution(stride, padding, dilation, groups):
    """Record one convolution of a picture that is not square."""
    return layer(
        lambda x, weight: F.conv2d(x, weight, None, stride, padding, dilation, groups),
        x=draw("x", (2, 4, 9, 11)),
        weight=draw("weight", (8, 4 // groups, 3, 2)),
    )


def layers():
    """Record every single layer and loss."""
    maps = (2, 3, 7, 6)
    record = {}
    for stride, padding, dilation, groups in (
        ((1, 1), (0, 0), (1, 1), 1),
        ((2, 1), (1, 0), (1, 1), 1),
        ((1, 2), (2, 1), (2, 3), 1),
        ((2, 2), (1, 1), (1, 1), 2),
        ((1, 1), (1, 1), (2, 1), 4),
    ):
        settings = [*stride, *padding, *dilation, groups]
        name = "conv/" + ",".join(map(str, settings))
        record[name] = convolution(stride, padding, dilation, groups)
    for mode, train in (("train", True), ("frozen", False)):
        statistics = draw("mean", (3,)), draw("variance", (3,), 0.5, 1.0)
        record[f"batch_norm/{mode}"] = layer(
            lambda x, weight, bias, s=statistics, t=train: F.batch_norm(x, *s, weight, bias, t),
            x=draw("x", maps),
            weight=draw("weight", (3,)),
            bias=draw("bias", (3,)),
        )
        if train:
            record["batch_norm/running"] = [summary(value) for value in statistics]
    record["max_pool"] = layer(lambda x: F.max_pool2d(x, 3, 2, 1), x=draw("x", maps))
    for name, counted in (("counted", True), ("left_out", False)):
        record[f"average_pool/{name}"] = layer(
            lambda x, c=counted: F.avg_pool2d(x, (3, 2), (2, 1), (1, 1), count_include_pad=c),
            x=draw("x", maps),
        )
    record["layer_norm"] = layer(
        lambda x, weight, bias: F.layer_norm(x, (6,), weight, bias, 1e-6),
        x=draw("x", maps),
        weight=draw("weight", (6,)),
        bias=draw("bias", (6,)),
    )
    record["gelu"] = layer(F.gelu, x=draw("x", maps, 4.0))
    record["softmax"] = layer(lambda x: x.softmax(-1), x=draw("x", (5, 7), 3.0))
    record["attention"] = layer(
        lambda qkv, down, across: attend(qkv, distances(down, 4), distances(across, 5), 2),
        qkv=draw("qkv", (2, 4, 5, 18)),
        down=draw("down", (7, 3)),
        across=draw("across", (9, 3)),
    )
    for size in ((14, 12), (9, 5)):
        record["nearest/" + ",".join(map(str, size))] = layer(
            lambda x, s=size: F.interpolate(x, s, mode="nearest"), x=draw("x", maps)
        )
        record["bilinear/" + ",".join(map(str, size))] = layer(
            lambda x, s=size: F.interpolate(x, s, mode="bilinear"), x=draw("x", maps)
        )
    record.update(losses())
    write("layers", record)


def losses():
    """Record every loss, with and without class weights."""
    record = {}
    labels = torch.arange(6) * 5 % 4
    logits = draw("logits", (6, 4), 3.0)
    weights = torch.tensor([1.0, 2.0, 0.5, 4.0])
    for name, settings in (
        ("plain", {}),
        ("smooth", {"label_smoothing": 0.1}),
        ("weights", {"weight": weights}),
        ("both", {"weight": weights, "label_smoothing": 0.1}),
    ):
        record[f"cross_entropy/{name}"] = layer(
            lambda logits, s=settings: F.cross_entropy(logits, labels, **s), logits=logits.clone()
        )
    answers = (draw("answers", (6, 4)) > 0).to(logits.dtype)
    for name, more in (("plain", None), ("weights", weights)):
        record[f"binary_cross_entropy/{name}"] = layer(
            lambda logits, w=more: F.binary_cross_entropy_with_logits(
                logits, answers, pos_weight=w
            ),
            logits=logits.clone(),
        )

    def focal(logits, alpha):
        p = logits.softmax(-1)[torch.arange(6), labels]
        return (-alpha[labels] * (1 - p) ** 2 * p.log()).mean()

    def binary_focal(logits, alpha):
        p = torch.where(answers > 0, logits.sigmoid(), 1 - logits.sigmoid())
        share = torch.where(answers > 0, alpha, 1 - alpha)
        return (-share * (1 - p) ** 2 * p.log()).mean()

    record["focal/plain"] = layer(
        lambda logits: focal(logits, torch.ones(4)), logits=logits.clone()
    )
    record["focal/weights"] = layer(lambda logits: focal(logits, weights), logits=logits.clone())
    record["focal/binary"] = layer(lambda logits: binary_focal(logits, 0.25), logits=logits.clone())

    masks = torch.arange(2 * 5 * 4).reshape(2, 5, 4) * 7 % 3

    def dice(logits):
        p = logits.softmax(1)
        g = F.one_hot(masks, 3).permute(0, 3, 1, 2)
        shared, sizes = (p * g).sum((0, 2, 3)), (p + g).sum((0, 2, 3))
        return 1 - ((2 * shared + 1) / (sizes + 1)).mean() + F.cross_entropy(logits, masks)

    record["dice_and_cross_entropy"] = layer(dice, logits=draw("logits", (2, 3, 5, 4), 2.0))
    return record


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    layers()
    networks()
