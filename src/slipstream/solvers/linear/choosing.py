"""Which solver? Measured on a handful of systems, remembered for this machine."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from slipstream.errors import InputError, MissingExtra
from slipstream.pretrained import write_whole
from slipstream.solvers.linear.algebraic import AMG
from slipstream.solvers.linear.conjugate import CG, MINRES
from slipstream.solvers.linear.direct import LU
from slipstream.solvers.linear.gmres import GMRES
from slipstream.solvers.linear.method import Inverse, Method, Preconditioner, Result
from slipstream.solvers.linear.preconditioners import ILU, Jacobi
from slipstream.solvers.linear.recycling import GCRODR
from slipstream.solvers.linear.solve import Solver

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Candidate:
    """A method, and the preconditioner that goes with it."""

    method: Method
    preconditioner: Preconditioner | Inverse | None = None


def standard() -> dict[str, Candidate]:
    """What is tried where nobody says otherwise: a direct solver, and an iterative one for each kind of matrix."""
    return {
        "LU": Candidate(LU()),
        "CG + Jacobi": Candidate(CG(), Jacobi()),
        "CG + AMG": Candidate(CG(), AMG()),
        "MINRES": Candidate(MINRES()),
        "GMRES(40) + ILU": Candidate(GMRES(40), ILU()),
        "GMRES(40) + AMG": Candidate(GMRES(40), AMG()),
        "GCRO-DR(40, 20) + Jacobi": Candidate(GCRODR(40, 20), Jacobi()),
    }


@dataclass(frozen=True)
class Measured:
    """One candidate on all the systems: seconds, iterations and applications of A for one system, and the worst true residual."""

    name: str
    seconds: float
    iterations: float
    applications: float
    residual: float
    reached: bool
    note: str = ""


@dataclass(frozen=True)
class Choice:
    """The fastest candidate that reached the tolerance on every system, and what was measured.

    Attributes
    ----------
    name, method, preconditioner : of the winner. rows : every candidate, fastest first, failures last.
    remembered : whether the figures come from an earlier call on this machine.
    """

    name: str
    method: Method
    preconditioner: Preconditioner | Inverse | None
    rows: tuple[Measured, ...]
    remembered: bool

    def table(self) -> Table:
        """For the terminal: ``rich.print(choice.table())``."""
        from rich.table import Table

        table = Table(title=f"Fastest: {self.name}" + (" (measured earlier)" if self.remembered else ""))
        for column in ("solver", "ms a system", "iterations", "products with A", "worst residual", ""):
            table.add_column(column, justify="left" if column in ("solver", "") else "right")
        for row in self.rows:
            seconds = f"{1e3 * row.seconds:.3g}" if math.isfinite(row.seconds) else "–"
            residual = f"{row.residual:.1e}" if math.isfinite(row.residual) else "–"
            style = "bold" if row.name == self.name else "" if row.reached else "dim"
            figures = (seconds, f"{row.iterations:.0f}", f"{row.applications:.0f}", residual)
            table.add_row(row.name, *figures, row.note.split(":")[0].split(" (")[0], style=style)
        return table


def choose_solver(
    systems: Any,
    candidates: Mapping[str, Candidate] | None = None,
    tol: float = 1e-8,
    *,
    max_iterations: int = 2000,
    rounds: int = 2,
    budget: float = 60.0,
    remember: bool = True,
) -> Choice:
    """Try every candidate on a handful of systems and take the fastest that reaches the tolerance.

    Every system is prepared and solved afresh, as in a data set of different systems; `GCRODR` carries its subspace along. Candidates
    take turns, the minimum of the rounds counts, and one that did not converge or that the matrix is not fit for is named with the reason.

    Parameters
    ----------
    systems : ``len(systems)``, ``systems[i] -> (A, b)``; some eight of them do.
    candidates : name -> `Candidate`; `standard()` if None.
    budget : seconds after which no further round is begun; the first round is always whole.
    remember : keep the figures in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``) and use those of an earlier call for the
        same machine, versions, candidates and kind of systems. A file that cannot be read is measured anew and replaced.

    Raises
    ------
    InputError : no system or candidate is given, or none reaches the tolerance; the message has the table in words.
    """
    candidates = standard() if candidates is None else candidates
    if not candidates or not len(systems):
        raise InputError(
            f"choose_solver got {len(systems)} systems and {len(candidates)} candidates; both need one at least."
        )
    kept = cache_file(systems, candidates, tol, max_iterations) if remember else None
    rows = _read(kept, candidates) if kept else None
    known = rows is not None
    if rows is None:
        rows = _measure(systems, candidates, tol, max_iterations, rounds, budget)
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(kept, json.dumps([asdict(row) for row in rows], indent=1).encode())
    if not rows[0].reached:
        said = "; ".join(f"{row.name}: {row.note or f'residual {row.residual:.1e}'}" for row in rows)
        raise InputError(
            f"No candidate reaches the tolerance {tol:g}. {said}. Give other candidates or more max_iterations."
        )
    best = candidates[rows[0].name]
    return Choice(rows[0].name, best.method, best.preconditioner, tuple(rows), known)


def _measure(systems, candidates, tol, max_iterations, rounds, budget) -> list[Measured]:
    begun = time.perf_counter()
    best: dict[str, Measured] = {}
    for turn in range(rounds):
        if turn and time.perf_counter() - begun > budget:
            break
        for name, candidate in candidates.items():
            if name in best and not best[name].reached:
                continue
            row = _try(name, candidate, systems, tol, max_iterations)
            if name not in best or row.seconds < best[name].seconds:
                best[name] = row
    return sorted(best.values(), key=lambda row: (not row.reached, row.seconds))


def _try(name: str, candidate: Candidate, systems, tol: float, max_iterations: int) -> Measured:
    results: list[Result] = []
    method = candidate.method
    try:
        for i in range(len(systems)):
            A, b = systems[i]
            solver = Solver(
                A, method=method, preconditioner=candidate.preconditioner, tol=tol, max_iterations=max_iterations
            )
            with torch.no_grad():
                results.append(solver.solve(b))
            if not results[-1].converged:
                break
            if isinstance(method, GCRODR):
                method = GCRODR(method.restart, method.recycle, results[-1].recycled)
    except (InputError, MissingExtra) as error:
        return Measured(name, math.inf, 0, 0, math.inf, False, str(error).split(". ")[0])
    count = len(results)
    return Measured(
        name,
        sum(r.seconds for r in results) / count,
        sum(r.iterations for r in results) / count,
        sum(r.applications for r in results) / count,
        max(float(r.residuals[-1].max()) for r in results),
        all(r.converged for r in results),
        results[-1].reason,
    )


def cache_file(systems: Any, candidates: Mapping[str, Candidate], tol: float, max_iterations: int) -> Path:
    """Where the figures for this machine and this kind of systems are kept."""
    import numpy
    import scipy

    A, b = systems[0]
    told = {
        "machine": [platform.node(), platform.machine(), platform.processor(), os.cpu_count(), torch.get_num_threads()],
        "versions": [platform.python_version(), torch.__version__, numpy.__version__, scipy.__version__],
        "candidates": {name: _told(c) for name, c in candidates.items()},
        "systems": [
            len(systems),
            type(A).__name__,
            list(b.shape),
            str(b.dtype),
            str(getattr(A, "dtype", "")),
            _count(A),
        ],
        "hermitian": getattr(A, "hermitian", None),
        "asked": [tol, max_iterations],
    }
    key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    home = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(home) if os.path.isabs(home) else Path.home() / ".cache"
    return folder / "slipstream" / "solvers" / f"{key}.json"


def _told(thing: Any) -> Any:
    """A candidate in words: its classes and their arguments."""
    if isinstance(thing, Candidate):
        return [_told(thing.method), _told(thing.preconditioner)]
    if isinstance(thing, (Method, Preconditioner)):
        return [type(thing).__qualname__, {k: repr(v) for k, v in sorted(vars(thing).items())}]
    return getattr(thing, "__qualname__", type(thing).__qualname__)


def _count(A: Any) -> int:
    if isinstance(A, torch.Tensor):
        return A._nnz() if A.layout != torch.strided else A.numel()
    return int(getattr(A, "nnz", 0))


def _read(path: Path, candidates: Mapping[str, Candidate]) -> list[Measured] | None:
    try:
        rows = [Measured(**row) for row in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        return None
    return rows if rows and {row.name for row in rows} == set(candidates) else None
