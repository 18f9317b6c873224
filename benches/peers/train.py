"""The PyTorch side of benches/train: does a case once for each line it reads, answers in seconds."""

import resource
import sys
import time

import sam
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """A residual block with torchvision's shape: bottleneck or basic."""

    def __init__(self, width: int, inner: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = inner * 4 if bottleneck else inner
        if bottleneck:
            shape = [(width, inner, 1, 1), (inner, inner, 3, stride), (inner, out, 1, 1)]
        else:
            shape = [(width, inner, 3, stride), (inner, out, 3, 1)]
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, k, s, k // 2, bias=False) for i, o, k, s in shape
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _, _ in shape)
        self.down = None
        if stride != 1 or width != out:
            self.down = nn.Sequential(
                nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for at, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(conv(y))
            if at + 1 < len(self.convs):
                y = F.relu(y, inplace=True)
        return F.relu(y + (self.down(x) if self.down is not None else x), inplace=True)


class ResNet(nn.Module):
    """torchvision's ResNet, written out so that torchvision need not be installed."""

    LAYOUTS = {
        "resnet18": ([2, 2, 2, 2], False),
        "resnet34": ([3, 4, 6, 3], False),
        "resnet50": ([3, 4, 6, 3], True),
        "resnet101": ([3, 4, 23, 3], True),
        "resnet152": ([3, 8, 36, 3], True),
    }

    def __init__(self, name: str) -> None:
        super().__init__()
        blocks, bottleneck = self.LAYOUTS[name]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        layers, width = [], 64
        for stage, count in enumerate(blocks):
            inner = 64 << stage
            for at in range(count):
                layers.append(Block(width, inner, 2 if stage and not at else 1, bottleneck))
                width = inner * 4 if bottleneck else inner
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)
        return self.fc(self.layers(x).mean((2, 3)))


def step(words: list[str], memory_format: torch.memory_format):
    name, images, size = words[0], int(words[1]), int(words[2])
    model: nn.Module = sam.Encoder() if name == "sam_vit_b" else ResNet(name)
    model = model.to(memory_format=memory_format)
    x = torch.randn(images, 3, size, size).to(memory_format=memory_format)
    labels = torch.arange(images) % 3
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def once() -> None:
        optimiser.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimiser.step()

    return once


def conv(words: list[str], memory_format: torch.memory_format):
    images, size, width, out, kernel, stride = map(int, words)
    layer = nn.Conv2d(width, out, kernel, stride, kernel // 2, bias=False)
    layer = layer.to(memory_format=memory_format)
    x = torch.randn(images, width, size, size).to(memory_format=memory_format)
    x.requires_grad_(width != 3)

    def once() -> None:
        layer.zero_grad()
        x.grad = None
        layer(x).sum().backward()

    return once


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    memory_format = layouts[sys.argv[2]]
    ready, once = "", lambda: None
    for line in sys.stdin:
        line = line.strip()
        if line == "memory":
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)
            continue
        if line != ready:
            kind, *words = line.split()
            once, ready = {"step": step, "conv": conv}[kind](words, memory_format), line
        started = time.perf_counter()
        once()
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
