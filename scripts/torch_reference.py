"""Networks in PyTorch that the Rust ones are held against, and the values that both start from.

`draw` makes values from a name by whole-number arithmetic that src/tests/parity/draw.rs repeats bit
for bit.
"""

import math

import torch
from torch.nn import functional as F


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


def resnet(p, x, blocks, bottleneck, train, margins=None):
    """Give the embedding of a residual network; note how near its kinks it comes."""
    margins = [] if margins is None else margins

    def norm(x, name):
        statistics = p[f"{name}.running_mean"].clone(), p[f"{name}.running_var"].clone()
        return F.batch_norm(x, *statistics, p[f"{name}.weight"], p[f"{name}.bias"], train)

    def conv(x, name, stride=1):
        weight = p[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def relu(x):
        margins.append((x.abs().min() / x.std()).item())
        return F.relu(x)

    x = relu(norm(conv(x, "conv1", 2), "bn1"))
    windows = F.unfold(x, 3, padding=1, stride=2).reshape(len(x), x.shape[1], 9, -1)
    first, second = windows.topk(2, dim=2).values.unbind(2)
    margins.append(((first - second)[first > 0].min() / x.std()).item())
    x = F.max_pool2d(x, 3, 2, 1)
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
                y = relu(y) if number < last else y
            if f"{name}.downsample.0.weight" in p:
                x = norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = relu(x + y)
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
