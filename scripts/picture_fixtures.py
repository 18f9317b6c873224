#!/usr/bin/env python3
"""Writes the small compressed pictures that tests put into files: src/tests/fixtures/pictures/.

Needs numpy, pillow and pillow-jxl-plugin:  python scripts/picture_fixtures.py
"""

from pathlib import Path

import numpy as np
import pillow_jxl  # noqa: F401  (registers JPEG XL)
from PIL import Image

FOLDER = Path(__file__).resolve().parent.parent / "src/tests/fixtures/pictures"
ROWS, COLUMNS = 24, 40

rows, columns = np.mgrid[0:ROWS, 0:COLUMNS]
random = np.random.default_rng(7)
values = (columns * 5 + rows * 3 + random.integers(0, 40, (ROWS, COLUMNS))) % 256
values = values.astype(np.uint8)
wide = values.astype(np.uint16) * 16 + random.integers(0, 16, (ROWS, COLUMNS)).astype(np.uint16)
grey = Image.fromarray(values)
colour = Image.fromarray(np.stack([values, 255 - values, values // 2 + 60], -1).astype(np.uint8))

FOLDER.mkdir(parents=True, exist_ok=True)
lossless = {"irreversible": False}
for name, picture, options in [
    ("grey-progressive.jpg", grey, {"quality": 92, "progressive": True, "optimize": True}),
    ("colour-progressive.jpg", colour, {"quality": 80, "progressive": True}),
    ("colour-restarts.jpg", colour, {"quality": 90, "restart_marker_blocks": 2}),
    ("grey-restarts.jpg", grey, {"quality": 90, "restart_marker_blocks": 3}),
    ("colour-420.jpg", colour, {"quality": 75, "subsampling": 2}),
    ("grey.j2k", grey, {**lossless, "no_jp2": True}),
    ("colour.j2k", colour, {**lossless, "no_jp2": True}),
    ("grey.jp2", grey, lossless),
    ("grey-16.j2k", Image.fromarray(wide), {**lossless, "no_jp2": True}),
    ("grey.jxl", grey, {"lossless": True}),
    ("colour.jxl", colour, {"lossless": True}),
]:
    picture.save(FOLDER / name, **options)
