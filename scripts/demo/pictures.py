"""A labelled set of files: what is uploaded, what is held back, and the ZIP made of it."""

import csv
import io
import random
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Item:
    """One labelled file."""

    name: str
    label: str
    # Groups the files of one patient; empty when nothing is known.
    patient: str
    read: Callable[[], bytes]
    split: str = ""
    pictures: int = 1

    @property
    def group(self) -> str:
        """What must not be torn apart: the patient, or the lone file."""
        return f"patient {self.patient}" if self.patient else f"file {self.name}"


@dataclass
class Plan:
    """What the demo uploads and what it holds back."""

    about: str
    uploaded: list[Item]
    held_back: list[Item]
    # Files that go into the archive although they cannot be used, to show how that is reported.
    odd: list[Item] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def counts(self) -> list[list[str]]:
        """Rows for people: class, files, patients, held back."""
        rows = [["class", "files", "pictures", "patients", "held back"]]
        held = Counter(item.label for item in self.held_back)
        for label in sorted({item.label for item in self.uploaded}):
            items = [item for item in self.uploaded if item.label == label]
            groups = len({item.group for item in items})
            pictures = sum(item.pictures for item in items)
            rows.append([label, str(len(items)), str(pictures), str(groups), str(held[label])])
        return rows


def hold_back(
    items: list[Item], groups_of: Callable[[int], int], fit: Callable[[Item], bool]
) -> tuple[list[Item], list[Item]]:
    """Takes whole patients out of each class: `groups_of(patients of the class)` of them.

    Only patients of a single class whose every file is `fit`, the smallest first, so that most
    pictures stay for training.
    """
    classes: dict[str, set[str]] = defaultdict(set)
    members: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        classes[item.group].add(item.label)
        members[item.group].append(item)
    taken: set[str] = set()
    for label in sorted({item.label for item in items}):
        groups = [group for group in members if label in classes[group]]
        able = [g for g in groups if classes[g] == {label} and all(map(fit, members[g]))]
        able.sort(key=lambda group: (sum(item.pictures for item in members[group]), group))
        taken.update(able[: groups_of(len(groups))])
    kept = [item for item in items if item.group not in taken]
    return kept, [item for item in items if item.group in taken]


def thin_out(items: list[Item], most: int) -> list[Item]:
    """At most `most` pictures, taken from the classes in turn; always the same ones."""
    queues = []
    for label in sorted({item.label for item in items}):
        queue = sorted((item for item in items if item.label == label), key=lambda i: i.name)
        random.Random(0).shuffle(queue)
        queues.append(queue)
    chosen: list[Item] = []
    pictures = 0
    while queues:
        for queue in list(queues):
            item = queue.pop()
            if pictures + item.pictures <= most:
                chosen.append(item)
                pictures += item.pictures
            if not queue:
                queues.remove(queue)
    return sorted(chosen, key=lambda item: item.name)


def pack(plan: Plan, target: Path) -> None:
    """Writes the archive: the files and `labels.csv`."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "label", "patient", "split"])
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for item in [*plan.uploaded, *plan.odd]:
            archive.writestr(item.name, item.read())
            writer.writerow([item.name, item.label, item.patient, item.split])
        archive.writestr("labels.csv", table.getvalue())
