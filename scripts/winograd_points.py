"""What 32 bits leave of a 3x3 convolution by F(4x4, 3x3), for two choices of points.

Prints the root mean square and the largest error, each over that of the exact values, for 256
channels of uniform numbers. The matrices follow from the points (Lavin and Gray 2016; Barabasz et
al. 2020); the last point is infinity. Needs torch:

    python scripts/winograd_points.py
"""

import torch
from torch import Tensor

CHANNELS, FILTERS, TILES = 256, 16, 16


def powers(points: list[float], count: int) -> Tensor:
    """The powers of each point up to `count`, and those of infinity: only the last."""
    rows = [[point**power for power in range(count)] for point in points]
    infinity = [0.0] * (count - 1) + [1.0]
    return torch.tensor([*rows, infinity], dtype=torch.float64)


def errors(points: list[float], scale: list[float]) -> tuple[float, float]:
    """Errors of the products with `scale` moved from the pictures' transform to the filters'."""
    factor = torch.tensor(scale, dtype=torch.float64)[:, None]
    back = powers(points, 4).T
    of_filter = powers(points, 3) * factor
    of_picture = torch.linalg.inv(powers(points, 6)).T / factor
    torch.manual_seed(0)
    pictures = torch.rand(TILES, CHANNELS, 6, 6, dtype=torch.float64) * 2 - 1
    filters = torch.rand(FILTERS, CHANNELS, 3, 3, dtype=torch.float64) * 2 - 1
    exact = torch.nn.functional.conv2d(pictures, filters)
    back, of_filter, of_picture = back.float(), of_filter.float(), of_picture.float()
    u = of_filter @ filters.float() @ of_filter.T
    v = of_picture @ pictures.float() @ of_picture.T
    found = back @ torch.einsum("ocij,tcij->toij", u, v) @ back.T
    apart = found.double() - exact
    mean = apart.square().mean().sqrt() / exact.square().mean().sqrt()
    return mean.item(), (apart.abs().max() / exact.abs().max()).item()


def main() -> None:
    """Prints both choices."""
    half = 0.5**0.5
    choices = {
        "0, ±1, ±2": ([0, 1, -1, 2, -2], [1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24, 1]),
        "0, ±√½, ±√2": ([0, half, -half, 2 * half, -2 * half], [1.0] * 6),
    }
    for name, (points, scale) in choices.items():
        mean, largest = errors([float(point) for point in points], scale)
        print(f"{name:<12} root mean square {mean:.2e}, largest {largest:.2e}")


if __name__ == "__main__":
    main()
