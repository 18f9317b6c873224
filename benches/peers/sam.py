"""SAM's ViT-B image encoder for PyTorch, as it is usually written: the peer of benches/train."""

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, DEPTH, HEADS, WINDOW, PATCH = 768, 12, 12, 14, 16
GLOBAL = (2, 5, 8, 11)


class Attention(nn.Module):
    """Multi-head attention on a grid, with decomposed relative positions."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, WIDTH // HEADS))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, WIDTH // HEADS))

    def positions(self, table: torch.Tensor, side: int) -> torch.Tensor:
        if table.shape[0] != 2 * side - 1:
            table = F.interpolate(table.T[None], 2 * side - 1, mode="linear")[0].T
        steps = torch.arange(side)
        return table[steps[:, None] - steps[None, :] + side - 1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, h, w, _ = x.shape
        qkv = self.qkv(x).reshape(n, h * w, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.reshape(3, n * HEADS, h * w, -1).unbind(0)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        grid = q.reshape(n * HEADS, h, w, -1)
        down = torch.einsum("bhwc,hkc->bhwk", grid, self.positions(self.rel_pos_h, h))
        across = torch.einsum("bhwc,wkc->bhwk", grid, self.positions(self.rel_pos_w, w))
        scores = scores.view(-1, h, w, h, w) + down[..., :, None] + across[..., None, :]
        out = scores.view(-1, h * w, h * w).softmax(-1) @ v
        out = out.view(n, HEADS, h, w, -1).permute(0, 2, 3, 1, 4).reshape(n, h, w, -1)
        return self.proj(out)


class Block(nn.Module):
    """A transformer block, windowed or global."""

    def __init__(self, window: int, side: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = Attention(window or side)
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.lin1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.lin2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        x = x + (self.windowed(y) if self.window else self.attn(y))
        return x + self.lin2(F.gelu(self.lin1(self.norm2(x))))

    def windowed(self, x: torch.Tensor) -> torch.Tensor:
        n, h, w, c = x.shape
        side = self.window
        x = F.pad(x, (0, 0, 0, -w % side, 0, -h % side))
        rows, columns = x.shape[1] // side, x.shape[2] // side
        x = x.view(n, rows, side, columns, side, c).transpose(2, 3).reshape(-1, side, side, c)
        x = self.attn(x).view(n, rows, columns, side, side, c).transpose(2, 3)
        return x.reshape(n, rows * side, columns * side, c)[:, :h, :w]


class Encoder(nn.Module):
    """The encoder with a linear head on the mean of its last tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        blocks = [Block(0 if at in GLOBAL else WINDOW, 64) for at in range(DEPTH)]
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(WIDTH, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.patches(images).permute(0, 2, 3, 1))
        return self.fc(x.mean((1, 2)))
