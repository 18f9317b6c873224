"""What the demo shows on the terminal: steps with their times, a progress bar, tables."""

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class DemoError(Exception):
    """Something that ends the demo; the message says what and, where it helps, what to do."""


def say(text: str = "") -> None:
    """One line, at once."""
    print(text, flush=True)


def notice(text: str) -> None:
    """Something that nobody should miss."""
    line = "!" * 78
    say(f"\n{line}\n{text}\n{line}\n")


class Steps:
    """Numbers the steps and keeps how long each took."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, float]] = []

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announces a step and times it."""
        say(f"\n[{len(self.taken) + 1}] {title}")
        started = time.monotonic()
        yield
        self.taken.append((title, time.monotonic() - started))


class Bar:
    """A progress bar on one line; on anything but a terminal, a line for each change of stage."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._stage = ""

    def show(self, stage: str, fraction: float, detail: str) -> None:
        """Draws the bar."""
        if not self._live:
            if stage != self._stage:
                say(f"    {fraction:4.0%}  {stage}")
            self._stage = stage
            return
        width = max(10, min(40, shutil.get_terminal_size().columns - 50))
        filled = round(width * min(max(fraction, 0.0), 1.0))
        line = f"    [{'#' * filled}{'.' * (width - filled)}] {fraction:4.0%}  {stage}  {detail}"
        print(f"\r\x1b[2K{line}", end="", flush=True)

    def end(self) -> None:
        """Leaves the bar's line."""
        if self._live:
            say()


def table(rows: Sequence[Sequence[str]], indent: str = "    ") -> None:
    """Prints rows with aligned columns: the first left, the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        say(indent + "  ".join(cells).rstrip())


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size} bytes"
