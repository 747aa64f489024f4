"""What equal error costs beside PhiFlow 3.4.0 (a cavity) and py-pde 0.59.0 (reaction and diffusion): error against time, fronts of both.

Run ``python benchmarks/peers.py`` where all are installed (``pip install phiflow==3.4.0 py-pde==0.59.0 jax rocket-fft==0.4.1`` beside
slipstream; without the last, py-pde has differences and no Fourier transforms); twenty minutes on one quiet core, ``--quick`` is a look at
small grids. Writes ``benchmarks/results/peers.json``.

Each side solves the same problem from the same state to the same time in many ways: grids, schemes, time steps, tolerances. The error of
each way is measured at the points of its own grid against a solution that ours computes on a much finer one, whose own error is stated from
coarser ones. What counts is the front of each side: the fastest way to each error. The ratio is taken at every point of the peer's front
whose error lies between ten times that of the reference and 10 %: its time over that of the fastest way of ours that is more accurate by
at least twice the error of the reference. The least of these ratios is held against the bar, up to an error of 1 % and beyond. Whole runs
in float64, in one process and one thread, warm, by turns, the least of the rounds; compilation is counted apart (`first`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import _cavity
import _patterns
import _phiflow
import numpy as np
from _equal import Row, Way, at_equal_error, compare, order
from _turns import run

if TYPE_CHECKING:
    from slipstream.assessment.evidence import Claim

QUESTION = (
    "What does a solution of equal error cost here and in other packages for partial differential equations in Python?"
)
FACTOR, BANDS = 10.0, ((0.0, 0.01), (0.01, 0.1))
"""Errors that count are at least so many times that of the reference; what is claimed is claimed of each band of them."""
SPEED = 5.0
"""Least ratio of times at equal error, wherever the peer's front has a point."""
SECOND = {_phiflow.PEER: "Heun", _patterns.PEER: "runge-kutta, differences"}
"""The way of each peer whose error is that of second-order differences alone: it judges our reference."""
AGREEMENT, ORDER = {_phiflow.PEER: 0.01, _patterns.PEER: 0.02}, 1.7
"""Largest difference of a peer's best solution from our reference; least order by which those of `SECOND` fall."""
FILES = ("_equal.py", "_cavity.py", "_phiflow.py", "_patterns.py")


def cavity(seconds: float, quick: bool) -> Row:
    ours, theirs, finest = ((8, 16, 32), (8, 16), 128) if quick else ((24, 32, 48, 64, 96, 128), (32, 64, 96), 384)
    fine, uncertain, its_order = _cavity.reference(finest)
    ways = chain(_cavity.our_ways(ours), _phiflow.ways(theirs))
    row = judged("cavity", _phiflow.PEER, ways, _cavity.error_of(fine), uncertain, seconds)
    return {**row, "order of the reference": its_order}


def pattern(name: str, seconds: float, quick: bool) -> Row:
    it = _patterns.PATTERNS[name]
    ours, theirs, finest = ((32, 48), (48, 96), 192) if quick else ((32, 48, 64, 96), (48, 96, 192, 384), 384)
    fine, uncertain = _patterns.reference(it, finest)
    # Fourier transforms are what an optional package adds to py-pde; grids need not be as fine as for differences.
    transformed = ours[1:] if _patterns.TRANSFORMS else ()
    ways = chain(
        _patterns.our_ways(it, ours),
        _patterns.their_ways(it, theirs, False),
        _patterns.their_ways(it, transformed, True),
    )
    row = judged(name, _patterns.PEER, ways, _patterns.error_of(fine), uncertain, seconds)
    return {**row, "transforms": _patterns.TRANSFORMS}


def judged(
    case: str,
    peer: str,
    ways: Iterable[Way],
    error: Callable[[np.ndarray], float],
    uncertain: float,
    seconds: float,
) -> Row:
    """What is written of one case: the fronts at equal error, and all ways."""
    rows = compare(ways, error, seconds)
    return {
        "case": case,
        "peer": peer,
        "error of the reference": uncertain,
        "difference": min(row["error"] for row in rows if row["side"] == peer),
        "order": order(rows, peer, SECOND[peer]),
        "at equal error": at_equal_error(rows, peer, uncertain, FACTOR * uncertain, BANDS[-1][1]),
        "ways": rows,
    }


def work(threads: int, seconds: float, quick: bool = False) -> None:
    """All cases, or one of each peer; one line of JSON each."""
    try:
        import pde  # noqa: F401
        import phi.jax  # noqa: F401
    except ImportError:
        raise SystemExit("This benchmark needs its peers: pip install phiflow==3.4.0 py-pde==0.59.0 jax") from None
    import torch

    torch.set_num_threads(threads)
    for name in list(_patterns.PATTERNS)[: 1 if quick else None]:
        print(json.dumps(pattern(name, seconds, quick)), flush=True)
    print(json.dumps(cavity(seconds, quick)), flush=True)


def claims(rows: list[Row]) -> Iterator[Claim]:
    from slipstream.assessment.evidence import Claim

    for row in rows:
        case, peer = row["case"], row["peer"]
        text = f"{case}: the most accurate solution of {peer} is that of our reference."
        yield Claim(text, "law", row["difference"], AGREEMENT[peer], "at most")
        text = f"{case}: on finer grids {peer} approaches our reference by the order of its differences."
        yield Claim(text, "law", row["order"], ORDER, "at least")
        for low, high in BANDS:
            ratios = [point["ratio"] for point in row["at equal error"] if low < point["error"] <= high]
            text = f"{case}: at every error from {low:.0%} to {high:.0%} at least {SPEED:g} times the speed of {peer}."
            yield Claim(text, "effect", min(ratios, default=math.nan), SPEED, "at least")


if __name__ == "__main__":
    packages = ["phiflow", "phiml", "py-pde", "numba", "jax", "jaxlib"]
    run(
        Path(__file__),
        QUESTION,
        work,
        claims,
        [*packages, "rocket-fft"] if _patterns.TRANSFORMS else packages,
        files=FILES,
        counts=(1,),
        quick=lambda threads, seconds: work(threads, seconds, quick=True),
    )
