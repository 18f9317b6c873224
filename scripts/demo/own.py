"""`DATA=path`: the user's own labelled folder or ZIP, with the server's own rules for labels."""

import csv
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pydicom

from .pictures import Item, Plan, hold_back, thin_out
from .terminal import DemoError

SPLITS = {"train", "training", "validation", "val", "valid", "test", "testing"}
CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini", "DICOMDIR"}
# A pass through a large backbone takes up to a second on two cores; the demo should take minutes.
MOST_PICTURES = int(os.environ.get("LVMED_DEMO_PICTURES", "150"))

Reader = Callable[[], bytes]


def plan(path: Path) -> Plan:
    """Reads labels, holds a few patients of each class back, thins out what is too much."""
    files = _from_zip(path) if path.is_file() else _from_folder(path)
    items = _labelled(files)
    if len({item.label for item in items}) < 2:
        raise DemoError(
            f"{path} holds fewer than two classes; give a folder per class, or a labels.csv with "
            "the columns file,label[,patient][,split]"
        )
    chosen = thin_out(items, MOST_PICTURES)
    uploaded, held_back = hold_back(
        chosen,
        groups_of=lambda patients: min(3, patients // 4),
        fit=lambda item: True,
    )
    notes = []
    if len(chosen) < len(items):
        notes.append(
            f"{len(chosen)} of {len(items)} files are used, to keep the demo short; "
            "LVMED_DEMO_PICTURES sets how many"
        )
    if not held_back:
        notes.append("no class has four patients: nothing is held back to predict on")
    return Plan(f"{path}", uploaded, held_back, notes=notes)


def _from_folder(path: Path) -> dict[str, Reader]:
    if not path.is_dir():
        raise DemoError(f"DATA names {path}, which is neither a folder nor a ZIP")
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(PurePosixPath(file.relative_to(path))): file.read_bytes for file in files}


def _from_zip(path: Path) -> dict[str, Reader]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DemoError(f"DATA names {path}, which is not a ZIP: {error}") from error

    def reader(name: str) -> Reader:
        return lambda: archive.read(name)

    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    return {name: reader(name) for name in sorted(names)}


def _labelled(files: dict[str, Reader]) -> list[Item]:
    files = {
        name: read
        for name, read in files.items()
        if not any(part.startswith(".") or part in CLUTTER for part in name.split("/"))
    }
    tables = [name for name in files if name.split("/")[-1].lower() == "labels.csv"]
    if tables:
        return _by_table(files, min(tables, key=lambda name: name.count("/")))
    return [
        Item(_inside(name), parts[-2], _patient(read), read, _split(parts))
        for name, read in files.items()
        if len(parts := name.split("/")) >= 2
    ]


def _by_table(files: dict[str, Reader], table: str) -> list[Item]:
    root = table[: -len("labels.csv")]
    text = files[table]().decode("utf-8-sig")
    delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
    items, missing = [], []
    for row in csv.DictReader(io.StringIO(text), delimiter=delimiter):
        row = {key.strip().lower(): (value or "").strip() for key, value in row.items() if key}
        if not {"file", "label"} <= row.keys():
            raise DemoError(f"{table} must have the columns file,label[,patient][,split]")
        name = row["file"].replace("\\", "/").removeprefix("./")
        read = files.get(root + name)
        if read is None:
            missing.append(name)
            continue
        patient = row.get("patient") or _patient(read)
        items.append(Item(_inside(name), row["label"], patient, read, row.get("split", "")))
    if missing:
        raise DemoError(f"{table} names {len(missing)} files that are not there: {missing[0]}, …")
    return items


def _patient(read: Reader) -> str:
    """A DICOM file's own PatientID, read as the server does."""
    data = read()
    if data[128:132] != b"DICM":
        return ""
    try:
        tags = ["PatientID"]
        return str(
            pydicom.dcmread(io.BytesIO(data), specific_tags=tags, stop_before_pixels=True).get(
                "PatientID", ""
            )
        )
    except Exception:  # noqa: BLE001 - the server will say what is wrong with it
        return ""


def _split(parts: list[str]) -> str:
    return parts[0] if len(parts) > 2 and parts[0].lower() in SPLITS else ""


def _inside(name: str) -> str:
    """A name that stays inside the archive."""
    return "/".join(part for part in name.split("/") if part not in ("", ".", ".."))
