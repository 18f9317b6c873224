"""The demo's own data: real DICOM files out of the Python packages pydicom and pydicom-data.

The label is the file's own Modality tag: sorting studies by modality is a real chore, and several
patients exist for each class. The rules below are applied to what the packages hold, so that the
set is made honestly and the same way every time.
"""

import hashlib
import importlib.util
import logging
import warnings
from collections import defaultdict
from pathlib import Path

import pydicom
from pydicom.dataset import FileDataset
from pydicom.filereader import read_file_meta_info

from .pictures import Item, Plan, hold_back
from .terminal import DemoError

# Modalities that make pictures of people. Left out: OT and None (the files say nothing of their
# origin; most are flat test patterns), and objects that are computed from pictures (SEG, RTDOSE).
IMAGING = {"CR", "CT", "DX", "MG", "MR", "NM", "PT", "RF", "US", "XA"}
MIN_PATIENTS = 3
MIN_PICTURES = 4
# A film of 120 frames would outweigh its whole class.
MAX_FRAMES = 16
# Leaves out the 16-pixel thumbnails that the packages also hold. Chosen after trial runs with and
# without them, so the demo's accuracy is no unbiased estimate of anything.
MIN_SIDE = 32
# Patients of a class that are held back: two of many, one of some, none where few exist.
SOME_PATIENTS = 4
MANY_PATIENTS = 6
# What every reader decodes to the same values: uncompressed and RLE.
EXACT_SYNTAXES = {
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.5",
}


def plan() -> Plan:
    """Reads every file of the two packages and applies the rules."""
    warnings.simplefilter("ignore")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    survey = _Survey()
    # Of several encodings of one picture, the one that every reader decodes alike is kept.
    for file in sorted(_files(), key=lambda file: not _is_exact(file)):
        survey.look_at(file)
    items = survey.with_enough_patients()
    uploaded, held_back = hold_back(
        items,
        groups_of=lambda patients: (patients >= SOME_PATIENTS) + (patients >= MANY_PATIENTS),
        fit=lambda item: item.name in survey.exact,
    )
    labels = {item.label for item in items}
    odd = [item for item in survey.odd if item.label in labels]
    text = b"Not a DICOM file, although its name says so.\n"
    odd.append(Item("CT/notes.dcm", "CT", "", lambda: text))
    return Plan(
        about="DICOM files of the Python packages pydicom and pydicom-data, labelled by Modality",
        uploaded=uploaded,
        held_back=held_back,
        odd=odd,
        notes=survey.notes(),
    )


class _Survey:
    """What is found, and why the rest is left out."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.odd: list[Item] = []
        self.exact: set[str] = set()
        self._left_out: dict[str, int] = defaultdict(int)
        self._pixels: set[str] = set()
        self._instances: set[str] = set()

    def look_at(self, file: Path) -> None:
        """Keeps a file, or counts it under the reason to leave it out."""
        try:
            data_set = pydicom.dcmread(file)
        except Exception:  # noqa: BLE001 - the packages hold files broken in every way
            return
        if reason := self._reason_to_leave_out(file, data_set):
            self._left_out[reason] += 1

    def _reason_to_leave_out(self, file: Path, data_set: FileDataset) -> str | None:
        modality = str(data_set.get("Modality", ""))
        if modality not in IMAGING:
            return "not of an imaging modality"
        item = _item(file, modality, data_set)
        if "PixelData" not in data_set:
            # One of them goes along, to show how it is reported.
            if not any(odd.label == modality for odd in self.odd):
                self.odd.append(item)
                return None
            return "without pixel data"
        if item.pictures > MAX_FRAMES:
            return f"with more than {MAX_FRAMES} frames"
        if min(data_set.get("Rows", 0), data_set.get("Columns", 0)) < MIN_SIDE:
            return f"smaller than {MIN_SIDE} pixels"
        instance = str(data_set.get("SOPInstanceUID", file))
        try:
            pixels = hashlib.sha256(data_set.pixel_array.astype("f8").tobytes()).hexdigest()
        except ValueError:
            self.odd.append(item)  # The pixels do not fit their own description.
            return None
        except Exception:  # noqa: BLE001 - whatever a decoder raises
            # The server decodes more than pydicom alone; another encoding of a picture that is
            # there already is left out all the same.
            if instance in self._instances:
                return "that repeat a picture in another encoding"
            self._instances.add(instance)
            self.items.append(item)
            return None
        if pixels in self._pixels:
            return "that repeat a picture in another encoding"
        self._pixels.add(pixels)
        self._instances.add(instance)
        self.items.append(item)
        # The server says plainly that it does not read segmented palettes; such a file is uploaded
        # to show that, and nothing is to be predicted on it.
        if _is_exact(file) and "SegmentedRedPaletteColorLookupTableData" not in data_set:
            self.exact.add(item.name)
        return None

    def with_enough_patients(self) -> list[Item]:
        """The classes that several patients stand for."""
        kept = []
        for label in sorted({item.label for item in self.items}):
            items = [item for item in self.items if item.label == label]
            patients = {item.group for item in items}
            pictures = sum(item.pictures for item in items)
            if len(patients) >= MIN_PATIENTS and pictures >= MIN_PICTURES:
                kept += items
            else:
                reason = f"of {label}, which has fewer than {MIN_PATIENTS} patients"
                self._left_out[reason] += len(items)
        if len({item.label for item in kept}) < 2:
            raise DemoError("the packages pydicom and pydicom-data hold too few usable files")
        return kept

    def notes(self) -> list[str]:
        """What was left out and why, for people to read."""
        counts = sorted(self._left_out.items(), key=lambda pair: -pair[1])
        return [f"left out: {count} files {reason}" for reason, count in counts]


def _is_exact(file: Path) -> bool:
    try:
        return read_file_meta_info(file).get("TransferSyntaxUID") in EXACT_SYNTAXES
    except Exception:  # noqa: BLE001 - the packages hold files broken in every way
        return False


def _item(file: Path, modality: str, data_set: FileDataset) -> Item:
    # Some files name no patient; those of one study are then taken to show one.
    patient = str(data_set.get("PatientID") or data_set.get("StudyInstanceUID") or "")
    try:
        frames = int(data_set.get("NumberOfFrames") or 1)
    except ValueError:
        frames = 1
    # The names of files in series folders repeat; the series keeps them apart.
    name = file.name if file.suffix else f"{file.parent.name}-{file.name}"
    return Item(f"{modality}/{name}", modality, patient, file.read_bytes, pictures=frames)


def _files() -> list[Path]:
    folders = []
    for module, inner in (("pydicom", "data"), ("data_store", "data")):
        spec = importlib.util.find_spec(module)
        places = list(spec.submodule_search_locations or []) if spec else []
        if not places:
            raise DemoError(f"the Python package that brings {module} is not installed")
        folders.append(Path(places[0]) / inner)
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return sorted(files, key=lambda file: file.parts[-4:])
