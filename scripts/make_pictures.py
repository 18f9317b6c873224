"""Draws a small labelled set of pictures for the walk-through: `images.zip` and `image.png`.

Two classes, five patients each, two pictures a patient: the bright half is left or right. Only the
standard library is used, and the same files come out every time.
"""

import random
import struct
import sys
import zipfile
import zlib
from pathlib import Path

SIDE = 64


def png(rows: list[bytes]) -> bytes:
    """An 8-bit grey PNG."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def picture(side: str, seed: int) -> bytes:
    """Noise that is brighter on one side."""
    chance = random.Random(f"{side} {seed}")
    half = SIDE // 2
    rows = []
    for _ in range(SIDE):
        row = bytearray(chance.randrange(0, 90) for _ in range(SIDE))
        start = 0 if side == "left" else half
        for at in range(start, start + half):
            row[at] = chance.randrange(150, 256)
        rows.append(bytes(row))
    return png(rows)


def main(folder: Path) -> None:
    """Writes both files."""
    with zipfile.ZipFile(folder / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        lines = ["file,label,patient"]
        for side in ("left", "right"):
            for number in range(10):
                name = f"{side}/{number}.png"
                archive.writestr(name, picture(side, number))
                lines.append(f"{name},{side},{side}-{number // 2}")
        archive.writestr("labels.csv", "\n".join(lines) + "\n")
    (folder / "image.png").write_bytes(picture("left", 99))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
