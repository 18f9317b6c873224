"""What a study found: AUROC by row, seed and task; its table, its differences, its JSON lines."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pretraining.service import said

# Two-sided 95 % quantiles of Student's t for so many values less one.
STUDENT = {
    **{2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262},
    **{11: 2.228, 12: 2.201, 13: 2.179, 14: 2.160, 15: 2.145, 16: 2.131, 17: 2.120, 18: 2.110},
    **{19: 2.101, 20: 2.093},
}


@dataclass
class Found:
    """The mean AUROC over a probe's repeats: row, then seed, then task."""

    areas: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def record(self, row: str, seed: int, areas: dict[str, float]) -> None:
        """Keeps and prints what was found."""
        self.areas.setdefault(row, {})[seed] = areas
        told = "  ".join(f"{task} {area:.3f}" for task, area in areas.items())
        print(f"  seed {seed}  {row:<34} {told}", flush=True)

    @contextmanager
    def timed(self, row: str) -> Iterator[None]:
        """Counts the seconds of a run."""
        begun = time.perf_counter()
        yield
        self.seconds.setdefault(row, []).append(time.perf_counter() - begun)

    def mean(self, row: str, seed: int) -> float:
        """The mean over tasks."""
        return statistics.mean(self.areas[row][seed].values())

    def differences(self, row: str, other: str) -> list[float]:
        """The mean over tasks above that of another row, for the seeds that both have."""
        seeds = [seed for seed in self.areas[row] if seed in self.areas[other]]
        return [self.mean(row, seed) - self.mean(other, seed) for seed in seeds]

    def report(self, study: str, against: list[str]) -> None:
        """Prints the table with differences to some rows, and a JSON line for each row."""
        against = [row for row in against if row in self.areas]
        tasks = list(next(iter(next(iter(self.areas.values())).values())))
        heads = [*tasks, "mean", *(f"over {row}" for row in against), "seconds"]
        print("\n| row | " + " | ".join(heads) + " |\n| --- |" + " --- |" * len(heads))
        lines = []
        for row, seeds in self.areas.items():
            means = [self.mean(row, seed) for seed in seeds]
            columns = [interval([areas[task] for areas in seeds.values()]) for task in tasks]
            columns.append(interval(means))
            columns += ["" if row == it else interval(self.differences(row, it)) for it in against]
            columns.append(f"{statistics.median(self.seconds.get(row, [0.0])):.0f}")
            print(f"| {row} | " + " | ".join(columns) + " |")
            line = {
                "bench": f"{study}/{row.replace(', ', '/').replace(' ', '-')}",
                "ours": round(statistics.mean(means), 4),
                "peer": round(
                    statistics.mean(means) - average(self.differences(row, against[0])), 4
                ),
                "unit": "AUROC",
                "better": "higher",
                "seeds": len(seeds),
            }
            lines.append(said(line))
        print("\n" + "\n".join(lines))


def average(values: list[float]) -> float:
    """The mean, 0 of none."""
    return statistics.mean(values) if values else 0.0


def interval(values: list[float]) -> str:
    """Mean and 95 % t-interval."""
    if len(values) > max(STUDENT):
        raise SystemExit(f"{len(values)} values are more than the table of t has")
    if len(values) not in STUDENT:
        return f"{average(values):.3f}" if values else ""
    half = STUDENT[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):.3f} ± {half:.3f}"
