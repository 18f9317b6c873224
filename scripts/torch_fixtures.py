#!/usr/bin/env python3
"""Writes the numbers that the Rust layers are held against, computed by PyTorch in 64 bits.

Needs torch and nothing else:  python scripts/torch_fixtures.py

Inputs and weights are not stored: `draw` makes them from a name by whole-number arithmetic that
src/tests/parity/draw.rs repeats bit for bit. Of each result the shape, the sum, the norm and a few
values are stored.
"""

import json
import math
from pathlib import Path

import torch
from torch.nn import functional as F

torch.set_default_dtype(torch.float64)
torch.set_num_threads(2)
FOLDER = Path(__file__).resolve().parent.parent / "src/tests/fixtures/torch"
LEARNING_RATE = 1e-2
# Large against the noise of gradients that are zero in exact arithmetic (the bias of keys, say).
ADAM_EPSILON = 1e-3


def wrapped(number):
    """Read the low 64 bits as a signed number, as torch's int64 does."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >= 1 << 63 else number


def shifted(numbers, bits):
    """Shift right as if the numbers had no sign."""
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)


def draw(name, shape, scale=1.0, center=0.0):
    """Draw values in [center - scale, center + scale): SplitMix64 seeded by FNV-1a of the name."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & ((1 << 64) - 1)
    numbers = torch.arange(1, math.prod(shape) + 1, dtype=torch.int64)
    numbers = numbers * wrapped(0x9E3779B97F4A7C15) + wrapped(seed)
    numbers = (numbers ^ shifted(numbers, 30)) * wrapped(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ shifted(numbers, 27)) * wrapped(0x94D049BB133111EB)
    numbers = numbers ^ shifted(numbers, 31)
    unit = shifted(numbers, 40).to(torch.float64) / (1 << 24)
    values = center + scale * (2.0 * unit - 1.0)
    # What a 32-bit network starts from, in both places.
    return values.to(torch.float32).to(torch.float64).reshape(shape)


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


def parameters(shapes):
    """Draw the weights of a network, each by its name."""
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith("running_var"):
            tensors[name] = draw(name, shape, 0.5, 1.0)
        elif len(shape) > 1:
            fan_in = math.prod(shape[1:])
            tensors[name] = draw(name, shape, math.sqrt(3.0 / fan_in))
        elif name.endswith("weight"):
            tensors[name] = draw(name, shape, 0.2, 1.0)
        else:
            tensors[name] = draw(name, shape, 0.1)
    return tensors


# Residual networks, after He et al. 2016 with torchvision's names.


def resnet_shapes(blocks, bottleneck):
    """Name every tensor of a residual network with its shape."""
    shapes = {}

    def layer(conv, norm, shape):
        shapes[f"{conv}.weight"] = shape
        for end in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{end}"] = (shape[0],)

    layer("conv1", "bn1", (64, 3, 7, 7))
    width = 64
    for stage, count in enumerate(blocks):
        inner = 64 << stage
        outer = inner * (4 if bottleneck else 1)
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            kernels = [(1, inner), (3, inner), (1, outer)] if bottleneck else [(3, inner)] * 2
            came = width
            for number, (kernel, out) in enumerate(kernels, 1):
                layer(f"{name}.conv{number}", f"{name}.bn{number}", (out, came, kernel, kernel))
                came = out
            if block == 0 and (stage > 0 or width != outer):
                layer(f"{name}.downsample.0", f"{name}.downsample.1", (outer, width, 1, 1))
            width = outer
    return shapes


def resnet(p, x, blocks, bottleneck, train):
    """Give the embedding of a residual network."""

    def norm(x, name):
        statistics = p[f"{name}.running_mean"].clone(), p[f"{name}.running_var"].clone()
        return F.batch_norm(x, *statistics, p[f"{name}.weight"], p[f"{name}.bias"], train)

    def conv(x, name, stride=1):
        weight = p[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    x = F.max_pool2d(F.relu(norm(conv(x, "conv1", 2), "bn1")), 3, 2, 1)
    for stage, count in enumerate(blocks):
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            last = 3 if bottleneck else 2
            y = x
            for number in range(1, last + 1):
                turn = 2 if bottleneck else 1
                y = conv(y, f"{name}.conv{number}", stride if number == turn else 1)
                y = norm(y, f"{name}.bn{number}")
                y = F.relu(y) if number < last else y
            if f"{name}.downsample.0.weight" in p:
                x = norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = F.relu(x + y)
    return x.mean((2, 3))


# SAM's image encoder, after Kirillov et al. 2023 and Li et al. 2022, with SAM's names.


def vit_shapes(patch, dim, depth, hidden, heads, window, whole, grid, neck):
    """Name every tensor of an image encoder with its shape."""
    shapes = {"patch_embed.proj.weight": (dim, 3, patch, patch), "patch_embed.proj.bias": (dim,)}
    for block in range(depth):
        name = f"blocks.{block}"
        for layer, out, came in (
            ("attn.qkv", 3 * dim, dim),
            ("attn.proj", dim, dim),
            ("mlp.lin1", hidden, dim),
            ("mlp.lin2", dim, hidden),
        ):
            shapes[f"{name}.{layer}.weight"] = (out, came)
            shapes[f"{name}.{layer}.bias"] = (out,)
        for norm in ("norm1", "norm2"):
            shapes[f"{name}.{norm}.weight"] = shapes[f"{name}.{norm}.bias"] = (dim,)
        rows = 2 * (grid if block in whole else window) - 1
        shapes[f"{name}.attn.rel_pos_h"] = shapes[f"{name}.attn.rel_pos_w"] = (rows, dim // heads)
    shapes["neck.0.weight"] = (neck, dim, 1, 1)
    shapes["neck.2.weight"] = (neck, neck, 3, 3)
    for norm in ("neck.1", "neck.3"):
        shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = (neck,)
    return shapes


def distances(table, side):
    """Look up the positions of every key as seen from every query along one side."""
    if len(table) != 2 * side - 1:
        table = F.interpolate(table.t()[None], size=2 * side - 1, mode="linear")[0].t()
    place = torch.arange(side)
    return table[place[:, None] - place[None, :] + side - 1]


def attend(qkv, down, across, heads):
    """Attend over windows [B, H, W, 3 D], head by head, query by query."""
    batch, height, width, triple = qkv.shape
    size = triple // 3 // heads
    q, k, v = qkv.reshape(batch, height, width, 3, heads, size).unbind(3)
    scores = torch.einsum("byxhs,bijhs->bhyxij", q, k) / math.sqrt(size)
    scores = scores + torch.einsum("byxhs,yis->bhyxi", q, down)[..., None]
    scores = scores + torch.einsum("byxhs,xjs->bhyxj", q, across)[..., None, :]
    weights = scores.flatten(4).softmax(-1).reshape(scores.shape)
    out = torch.einsum("bhyxij,bijhs->byxhs", weights, v)
    return out.reshape(batch, height, width, heads * size)


def vit(p, x, patch, dim, depth, hidden, heads, window, whole, grid, neck):
    """Give the embedding and the feature map of an image encoder."""
    x = F.conv2d(x, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=patch)
    x = x.permute(0, 2, 3, 1)
    count, rows, columns, _ = x.shape

    def linear(x, name):
        return F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"], 1e-6)

    for block in range(depth):
        name = f"blocks.{block}"
        y = norm(x, f"{name}.norm1")
        height, width = (rows, columns) if block in whole else (window, window)
        down = distances(p[f"{name}.attn.rel_pos_h"], height)
        across = distances(p[f"{name}.attn.rel_pos_w"], width)
        high, wide = math.ceil(rows / height), math.ceil(columns / width)
        y = F.pad(y, (0, 0, 0, wide * width - columns, 0, high * height - rows))
        y = y.reshape(count, high, height, wide, width, dim).transpose(2, 3)
        y = linear(y.reshape(-1, height, width, dim), f"{name}.attn.qkv")
        y = attend(y, down, across, heads)
        y = y.reshape(count, high, wide, height, width, dim).transpose(2, 3)
        y = y.reshape(count, high * height, wide * width, dim)[:, :rows, :columns]
        x = x + linear(y, f"{name}.attn.proj")
        y = F.gelu(linear(norm(x, f"{name}.norm2"), f"{name}.mlp.lin1"))
        x = x + linear(y, f"{name}.mlp.lin2")
    y = F.conv2d(x.permute(0, 3, 1, 2), p["neck.0.weight"]).permute(0, 2, 3, 1)
    y = F.conv2d(norm(y, "neck.1").permute(0, 3, 1, 2), p["neck.2.weight"], padding=1)
    return x.mean((1, 2)), norm(y.permute(0, 2, 3, 1), "neck.3").permute(0, 3, 1, 2)


OPTIMISERS = {
    "adamw": lambda p: torch.optim.AdamW(p, LEARNING_RATE, eps=ADAM_EPSILON, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, LEARNING_RATE, eps=ADAM_EPSILON),
    "sgd": lambda p: torch.optim.SGD(p, LEARNING_RATE, momentum=0.9),
}


def network(shapes, forward, features, picture, optimisers, samples=8):
    """Record loss, gradients and three steps of a classification of drawn pictures."""
    shapes = {**shapes, "fc.weight": (3, features), "fc.bias": (3,)}
    x = draw("images", picture)
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

    shapes = resnet_shapes(*small)
    batch = (4, 3, 64, 64)
    write("resnet18_train", network(shapes, residual(small, True), 512, batch, ("adamw",), 4))
    write("resnet18_frozen", network(shapes, residual(small, False), 512, batch, ("sgd",), 4))
    record = network(vit_shapes(**TINY_VIT), transformer(TINY_VIT), 24, batch, everything)
    x, p = draw("images", batch), parameters(vit_shapes(**TINY_VIT))
    record["feature_map"] = summary(vit(p, x, **TINY_VIT)[1])
    write("small_vit", record)
    batch = (2, 3, 64, 64)
    shapes = resnet_shapes(*large)
    write("resnet50", network(shapes, residual(large, False), 2048, batch, (), 2))
    shapes = vit_shapes(**SAM_VIT_B)
    write("sam_vit_b", network(shapes, transformer(SAM_VIT_B), 768, batch, (), 2))


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
            lambda logits, w=more: F.binary_cross_entropy_with_logits(logits, answers, pos_weight=w),
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

    record["dice_and_cross_entropy"] = layer(dice, logits=draw("maps", (2, 3, 5, 4), 2.0))
    return record


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    layers()
    networks()
