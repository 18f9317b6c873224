"""The server's preprocessing written a second time, with pydicom, NumPy and Pillow.

It shares no code with the server: when both feed the exported network and agree, the exported file
and its `config.json` are all that another program needs.
"""

import io
import math
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array

Plane = NDArray[np.float64]


def prepare(data: bytes, frame: int, preprocessing: dict[str, Any]) -> NDArray[np.float32]:
    """One picture of a file as the network's input: `[1, 3, size, size]`."""
    planes = _dicom(data, frame) if data[128:132] == b"DICM" else _raster(data)
    size = int(preprocessing["size"])
    resized = [_resize(plane, size) for plane in planes]
    if len(resized) == 1:
        resized *= 3
    if preprocessing["channel_order"] == "bgr":
        resized.reverse()
    moments = zip(preprocessing["mean"], preprocessing["std"], strict=True)
    normal = [(p - mean) / std for p, (mean, std) in zip(resized, moments, strict=True)]
    return np.stack(normal)[np.newaxis].astype(np.float32)


def is_lossy(data: bytes) -> bool:
    """Whether decoders may differ by a grey level or two: JPEG and its kin."""
    if data[128:132] != b"DICM":
        return data[:3] == b"\xff\xd8\xff"
    syntax = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).file_meta.TransferSyntaxUID
    lossless = syntax in (pydicom.uid.JPEG2000Lossless, pydicom.uid.JPEGLSLossless)
    return bool(syntax.is_compressed and not lossless and syntax != pydicom.uid.RLELossless)


def _resize(plane: Plane, size: int) -> Plane:
    """Stretched to a square by Pillow's antialiased bilinear filter, on real values."""
    picture = Image.fromarray(plane.astype(np.float32))
    resized = picture.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float64)


def _raster(data: bytes) -> list[Plane]:
    """PNG and JPEG: 8 bits over 255, 16 bits over 65535, alpha ignored."""
    picture = Image.open(io.BytesIO(data))
    if picture.mode.startswith("I"):
        return [np.asarray(picture, dtype=np.float64) / 65535]
    if picture.mode in ("1", "L", "LA"):
        return [np.asarray(picture.convert("L"), dtype=np.float64) / 255]
    colours = np.asarray(picture.convert("RGB"), dtype=np.float64) / 255
    return [colours[..., channel] for channel in range(3)]


def _dicom(data: bytes, frame: int) -> list[Plane]:
    ds = pydicom.dcmread(io.BytesIO(data))
    if int(ds.get("SamplesPerPixel", 1)) == 3:
        colours = pixel_array(ds, index=frame).astype(np.float64)
        shift = max(int(ds.BitsStored) - 8, 0)
        return [np.floor(colours[..., c] / 2**shift) / 255 for c in range(3)]
    stored = _stored(pixel_array(ds, index=frame, raw=True), ds)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        entries = apply_color_lut(stored, ds).astype(np.int64)
        shift = 8 if int(ds.RedPaletteColorLookupTableDescriptor[2]) > 8 else 0
        return [(entries[..., c] >> shift) / 255 for c in range(3)]
    return [_brightness(stored.astype(np.float64), ds, frame)]


def _stored(raw: NDArray[Any], ds: Dataset) -> NDArray[np.int64]:
    """Only the low `BitsStored` bits count; overlays may hide in the others (PS3.5 8.1.1)."""
    bits = int(ds.BitsStored)
    low = raw.astype(np.int64) & ((1 << bits) - 1)
    if int(ds.get("PixelRepresentation", 0)) == 1:
        low = np.where(low >= 1 << (bits - 1), low - (1 << bits), low)
    return low


def _brightness(stored: Plane, ds: Dataset, frame: int) -> Plane:
    """Modality values (PS3.3 C.11.1), then the first window (C.11.2.1.2.1) or the robust range."""
    bits = int(ds.BitsStored)
    signed = int(ds.get("PixelRepresentation", 0)) == 1
    lowest = -float(2 ** (bits - 1)) if signed else 0.0
    highest = lowest + 2.0**bits - 1
    if table := ds.get("ModalityLUTSequence"):
        _, first, depth = (int(number) for number in table[0].LUTDescriptor)
        entries = np.asarray(table[0].LUTData, dtype=np.float64)
        values = entries[np.clip(stored - first, 0, len(entries) - 1).astype(np.int64)]
        low, high = 0.0, 2.0**depth - 1
    else:
        group = "PixelValueTransformationSequence"
        slope = _number(ds, frame, group, "RescaleSlope") or 1.0
        intercept = _number(ds, frame, group, "RescaleIntercept") or 0.0
        values = stored * slope + intercept
        low, high = lowest * slope + intercept, highest * slope + intercept
    inverted = ds.PhotometricInterpretation == "MONOCHROME1"
    if inverted:
        values = low + high - values

    group = "FrameVOILUTSequence"
    center = _number(ds, frame, group, "WindowCenter")
    width = _number(ds, frame, group, "WindowWidth")
    if center is not None and width is not None and width > 0:
        if inverted:
            center = low + high - center + 1
        if width >= 1:
            span = max(width - 1, 1e-6)
            return np.clip((values - (center - 0.5)) / span + 0.5, 0, 1)
        return np.clip((values - center) / max(width, 1e-12) + 0.5, 0, 1)
    black, white = _robust_range(values)
    return np.clip((values - black) / (white - black), 0, 1) if white > black else values * 0


def _robust_range(values: Plane) -> tuple[float, float]:
    """The values at the 0.5th and 99.5th percentile ranks, halves rounded up."""
    ordered = np.sort(values, axis=None)
    low, high = (ordered[math.floor((ordered.size - 1) * share + 0.5)] for share in (0.005, 0.995))
    return (float(low), float(high)) if high > low else (float(ordered[0]), float(ordered[-1]))


def _number(ds: Dataset, frame: int, group: str, name: str) -> float | None:
    """A number of the object itself, or of its per-frame or shared functional groups."""
    places = [ds]
    for sequence, at in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        items = ds.get(sequence) or []
        if at < len(items) and (inner := items[at].get(group)):
            places.append(inner[0])
    for place in places:
        value = place.get(name)
        if value is None or value == "":
            continue
        return float(value if isinstance(value, int | float) else value[0])
    return None
