"""Pictures that the demo draws itself, enough of them to be judged by: a shadow in a noisy field.

Three classes: no shadow, a smooth round one, one with spikes. Each picture is a DICOM file of a
patient of its own, always the same ones. They say how exact an evaluation is that has test patients
enough; of real patients they say nothing.
"""

import io
import math
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from .pictures import Item, Plan

CLASSES = ["no shadow", "round shadow", "spiked shadow"]
PATIENTS = 60  # Of each class.
SIDE = 256
BITS = 12
COMPUTED_RADIOGRAPHY = UID("1.2.840.10008.5.1.4.1.1.1")
# A root that stands for UUIDs (PS3.5 B.2); what follows is the picture's own number.
UID_ROOT = "2.25.4294967296"

Field = NDArray[np.float64]


def plan() -> Plan:
    """All pictures; none is held back."""
    items = []
    for number in range(PATIENTS * len(CLASSES)):
        label = CLASSES[number % len(CLASSES)]
        name = f"drawn/{number:03}.dcm"
        items.append(Item(name, label, f"drawn-{number:03}", partial(file, label, number)))
    return Plan(
        about="pictures that this demo draws itself: shadows in a noisy field, as DICOM files",
        uploaded=items,
        held_back=[],
    )


def file(label: str, number: int) -> bytes:
    """A picture as a DICOM file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = COMPUTED_RADIOGRAPHY
    meta.MediaStorageSOPInstanceUID = UID(f"{UID_ROOT}{number:03}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    written = Dataset()
    written.file_meta = meta
    written.SOPClassUID = meta.MediaStorageSOPClassUID
    written.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    written.Modality = "CR"
    written.PatientID = f"drawn-{number:03}"
    written.Rows = written.Columns = SIDE
    written.SamplesPerPixel = 1
    written.PhotometricInterpretation = "MONOCHROME2"
    written.BitsAllocated = 16
    written.BitsStored = BITS
    written.HighBit = BITS - 1
    written.PixelRepresentation = 0
    levels = np.round(picture(label, number) * (2**BITS - 1))
    written.PixelData = levels.astype("<u2").tobytes()
    target = io.BytesIO()
    written.save_as(target, enforce_file_format=True)
    return target.getvalue()


def picture(label: str, number: int) -> Field:
    """Brightness from 0 to 1, `[SIDE, SIDE]`."""
    random = np.random.default_rng([number, CLASSES.index(label)])
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    angle = random.uniform(-0.3, 0.3)
    slope = math.cos(angle) * rows + math.sin(angle) * columns
    bands = 0.05 * np.sin(2 * math.pi * (random.uniform(4, 8) * slope + random.uniform()))
    field = 0.4 + bands + 0.06 * clouds(random, 8) + 0.04 * clouds(random, 32)
    if label != CLASSES[0]:
        y, x = random.uniform(0.15, 0.85, 2)
        radius, height = random.uniform(0.07, 0.13), random.uniform(0.2, 0.3)
        spikes = random.uniform(0.25, 0.4) if label == CLASSES[2] else 0.0
        turn, points = random.uniform(0, 2 * math.pi), random.integers(7, 12)
        around = np.arctan2(rows - y, columns - x)
        edge = radius * (1 + spikes * np.cos(points * around + turn))
        distance = np.hypot(rows - y, columns - x)
        field = field + height / (1 + np.exp((distance - edge) / 0.008))
    noisy: Field = field + random.normal(0, 0.03, field.shape)
    return np.clip(noisy, 0, 1)


def clouds(random: np.random.Generator, cells: int) -> Field:
    """Noise that is smooth over so many cells a side."""
    coarse = random.normal(size=(cells + 1, cells + 1))
    at = np.linspace(0, cells - 1e-9, SIDE)
    low = at.astype(int)
    share = at - low
    across = coarse[:, low] * (1 - share) + coarse[:, low + 1] * share
    smooth: Field = across[low] * (1 - share)[:, None] + across[low + 1] * share[:, None]
    return smooth
