"""Public matching heuristics for benches/matching: an instance or a solver a line in, JSON out.

pygmtools (RRWM, IPFP, spectral matching) takes Lawler's affinity matrix `K` over pairs of nodes,
here `K[(a, i), (b, j)]` with the affinity of edges `(i, j)` and `(a, b)`; what it gives is made a
permutation by its own Hungarian method. These methods expect `K` without negative entries, so each
is asked twice: with all affinities raised by a constant (exact for nodes, whose number is fixed,
but not for edges), and with those of nodes raised and those of edges as they are. The better answer
counts, and the time of the faster of the two. Making `K` is not timed.

SciPy's `quadratic_assignment` maximises `trace(A' P B P')`, Koopmans and Beckmann's form. It has
no place for an affinity of its own for each pair of edges, so it is asked only where affinities
are products `s[i] t[a]` and `w[x] u[y]`: then `A = diag(s) + w` and `B = diag(t) + u` say the same.
"""

import json
import sys
import time

import numpy as np
import pygmtools
from scipy.optimize import quadratic_assignment

pygmtools.set_backend("numpy")
LAWLER = {"rrwm": pygmtools.rrwm, "ipfp": pygmtools.ipfp, "sm": pygmtools.sm}
SCIPY = ("faq", "2opt")


class Instance:
    """What the solvers need, made once."""

    def __init__(self, request: dict) -> None:
        self.nodes = nodes = request["nodes"]
        self.edges = [
            np.array(request[side], dtype=int) for side in ("source_edges", "target_edges")
        ]
        affinities = np.array(request["node_affinities"]).reshape(nodes, nodes)
        between = np.array(request["edge_affinities"])
        between = between.reshape(len(self.edges[0]), len(self.edges[1]))
        self.affinities, self.between = affinities, between
        raised = affinities - affinities.min()
        self.matrices = [
            self.lawler(raised, between - min(between.min(), 0.0)),
            self.lawler(raised, between),
        ]
        self.factors = None
        if request["weights"]:
            nodes_and_edges = [np.array(weights) for weights in request["weights"]]
            self.factors = [
                self.factor(nodes_and_edges[side], nodes_and_edges[side + 2], self.edges[side])
                for side in (0, 1)
            ]

    def lawler(self, nodes: np.ndarray, edges: np.ndarray) -> np.ndarray:
        """Lawler's matrix of some affinities, symmetric."""
        count = self.nodes
        matrix = np.zeros((count, count, count, count))
        (i, j), (a, b) = self.edges[0].T, self.edges[1].T
        matrix[a[None, :], i[:, None], b[None, :], j[:, None]] = edges
        matrix = matrix.reshape(count * count, count * count)
        # They take `K` to be symmetric; the objective is the same.
        return (matrix + matrix.T) / 2 + np.diag(nodes.T.reshape(-1))

    def factor(self, nodes: np.ndarray, edges: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """One side's weights as a matrix, those of nodes on the diagonal."""
        matrix = np.diag(nodes)
        matrix[pairs[:, 0], pairs[:, 1]] = edges
        return matrix

    def value(self, partners: np.ndarray) -> float:
        """The objective of an assignment."""
        value = self.affinities[np.arange(self.nodes), partners].sum()
        ends = partners[self.edges[0]]
        same = (ends[:, None, :] == self.edges[1][None, :, :]).all(axis=2)
        return float(value + self.between[same].sum())

    def by_lawler(self, solver: str) -> tuple[float, np.ndarray]:
        """Solve with pygmtools."""
        answers = []
        for matrix in self.matrices:
            started = time.perf_counter()
            soft = LAWLER[solver](matrix, self.nodes, self.nodes)
            hard = pygmtools.hungarian(np.nan_to_num(soft))
            seconds = time.perf_counter() - started
            partners = hard.argmax(axis=1)
            answers.append((self.value(partners), seconds, partners))
        best = max(answers, key=lambda answer: answer[0])
        return min(answer[1] for answer in answers), best[2]

    def by_scipy(self, solver: str) -> tuple[float, np.ndarray]:
        """Solve with SciPy."""
        options = {"maximize": True, "rng": np.random.default_rng(0)}
        started = time.perf_counter()
        answer = quadratic_assignment(*self.factors, method=solver, options=options)
        return time.perf_counter() - started, answer.col_ind

    def solve(self, solver: str) -> dict:
        """Solve once; the seconds and the partners."""
        seconds, partners = (self.by_lawler if solver in LAWLER else self.by_scipy)(solver)
        return {"seconds": seconds, "partners": partners.tolist()}


def main() -> None:
    """Answer until there are no more lines."""
    instance = None
    for line in sys.stdin:
        request = json.loads(line)
        if "solve" in request:
            answer = instance.solve(request["solve"])
        else:
            instance = Instance(request)
            answer = [*LAWLER, *(SCIPY if instance.factors else ())]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
