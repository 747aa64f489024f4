"""Reduced: a steady problem of a few numbers, answered by a law for the coefficients of its field in a POD basis."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slipstream.channels import Channel
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.operators.law import PointwiseLaw
from slipstream.problems.moving_source import MovingSource, Newton
from slipstream.problems.problem import Problem, Setting
from slipstream.solvers.moving_source import stacked
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters, Window

SLACK = 1e-4
"""Parameters may lie so far outside their ranges, in half ranges: rounding."""
SHOWN = (10, 20, 50, 100, 200, 400)
"""Numbers of modes whose error a report shows."""


@runtime_checkable
class Foldable(Protocol):
    """A problem that knows its symmetries: see `MovingSource.fold`."""

    def fold(self, z: Tensor) -> tuple[Tensor, Tensor]: ...

    def folded(self, fields: Tensor, way: Tensor) -> Tensor: ...

    def unfold(self, fields: Tensor, way: Tensor) -> Tensor: ...


class Reduced(Stepper):
    """Parameters in, one field out: mean + modes x coefficients, the coefficients by a network, a polynomial or radial functions.

    The modes are those of `snapshots` solutions by the fast classical solver, which are computed when the first loss or fit asks for
    them (so their cost is part of the training's), and are kept with the weights. A `law` that fits itself is trained in one step
    (``update: {class: Fit}``), a network by descent, both with the objective `Own`: the mean square of the relative error in the basis.

    Parameters
    ----------
    law : from parameters, each scaled to [-1, 1] over its range (of its logarithm where that is positive), to coefficients in units of
        their spread: as many outputs as modes are kept.
    problem : steady, with scalar parameters only (`Problem.varying`).
    snapshots : solutions that the modes are computed from.
    folded : whether the problem's symmetries are used: the law then sees only queries in the problem's smallest part.
    polish : Newton steps that the classical solver adds on the grid (`MovingSource` only): more accurate, slower, and
        ``State.stats["residual"]`` says how well the answer balances.

    Raises
    ------
    InputError : parameters outside the ranges that the law has learnt (when called).

    References
    ----------
    Hesthaven & Ubbiali, J. Comput. Phys. 363 (2018) 55.
    """

    history = 0
    interval = 0.0
    loss_frames = (0, 1)
    grid: Grid
    channels: tuple[Channel, ...]
    mean: Tensor
    encoder: Tensor
    decoder: Tensor
    spread: Tensor
    decay: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self, law: PointwiseLaw, problem: Problem, snapshots: int = 1000, folded: bool = True, polish: int = 0
    ) -> None:
        super().__init__()
        if not problem.steady or problem.fields or not problem.varying:
            raise InputError(
                f"Reduced answers steady problems of a few numbers; {problem.name} is not one (steady={problem.steady}, "
                f"fields={problem.fields}, varying={sorted(problem.varying)})."
            )
        if law.inputs != len(problem.varying):
            raise InputError(
                f"Reduced got a law of {law.inputs} inputs; "
                f"{problem.name} has {len(problem.varying)} numbers: {', '.join(problem.varying)}."
            )
        if snapshots <= law.outputs or polish < 0:
            raise InputError(
                f"Reduced needs more snapshots than modes, and polish >= 0; "
                f"got snapshots={snapshots}, {law.outputs} modes, polish={polish}."
            )
        if folded and not isinstance(problem, Foldable):
            raise InputError(f"{problem.name} names no symmetries (fold, folded, unfold); use folded=False.")
        if polish and not isinstance(problem, MovingSource):
            raise InputError(f"{problem.name} has no Newton step to polish with; use polish=0.")
        self.law, self.problem, self.snapshots, self.folded, self.polish = law, problem, snapshots, folded, polish
        self.grid, self.channels = problem.grid, problem.channels
        size, rank = len(self.channels) * self.grid.size, law.outputs
        ranges = [(math.log(a), math.log(b)) if a > 0 else (a, b) for a, b in problem.varying.values()]
        self.register_buffer("low", torch.tensor([a for a, _ in ranges]))
        self.register_buffer("high", torch.tensor([b for _, b in ranges]))
        self.register_buffer("_logarithmic", torch.tensor([a > 0 for a, _ in problem.varying.values()]))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("encoder", torch.zeros(size, rank))
        self.register_buffer("decoder", torch.zeros(rank, size))
        self.register_buffer("spread", torch.ones(rank))
        self.register_buffer("decay", torch.full((len(SHOWN),), torch.nan))
        self._polisher = (
            problem.newton(Setting(self.grid.shape[0] - 1, 0, Newton()))
            if polish and isinstance(problem, MovingSource)
            else None
        )

    _logarithmic: Tensor

    def scaled(
        self, parameters: Parameters
    ) -> tuple[Float[Tensor, "batch input"], Int[Tensor, " batch"] | None, Float[Tensor, "batch input"]]:
        """What the law sees, how each query was folded, and the plain parameters."""
        p = stacked(parameters, type(self).__name__, list(self.problem.varying)).to(self.low)
        z = torch.where(self._logarithmic, p.log(), p)
        z = (2 * z - (self.low + self.high)) / (self.high - self.low)
        if not bool((z.abs() <= 1 + SLACK).all()):
            name = list(self.problem.varying)[int((~(z.abs() <= 1 + SLACK)).any(0).nonzero()[0])]
            found = parameters[name]
            raise InputError(
                f"Reduced has learnt {name} in {self.problem.varying[name]}; got values from {float(found.min()):.4g} to "
                f"{float(found.max()):.4g}. Ask the classical solver there, or widen the problem's range and train again."
            )
        way = None
        if self.folded:
            assert isinstance(self.problem, Foldable)
            z, way = self.problem.fold(z)
        return z, way, p

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        z, way, p = self.scaled(parameters)
        u = torch.addmm(self.mean, self.law(z) * self.spread, self.decoder)
        if way is not None:
            u = self.problem.unfold(u, way)  # type: ignore[attr-defined]
        frame = u.reshape(len(z), len(self.channels), *self.grid.shape)
        stats: dict[str, Tensor] = {}
        if self._polisher is not None:
            for _ in range(self.polish):
                frame, before, after = self._polisher.polish(frame, p)
                stats = {"residual_before": stats.get("residual_before", before), "residual": after}
        return replace(state, stats=stats), frame[:, None]

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space2"]:
        return self.advance(State(past), parameters)[1]

    def check(self, frames: Tensor) -> None:
        """Steady: it looks at parameters alone."""

    def fit(self, window: Window) -> None:
        """Fit the law to the solutions in a window."""
        z, y, _ = self._learnt(window)
        self.law.fit(z, y / self.spread)

    def loss(self, window: Window, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean square of the relative L2 error, as far as it lies in the basis."""
        z, y, size = self._learnt(window)
        error = (self.law(z) * self.spread - y).square().sum(1) / size
        return error.mean(), {"relative": error.detach().mean().sqrt()}

    def remarks(self) -> tuple[str, ...]:
        """How quickly linear modes converge: whether a linear basis is any good for this problem."""
        if not bool(self.decay.isfinite().any()):
            return ()
        shown = ", ".join(
            f"{100 * e:.2g} % with {k}" for k, e in zip(SHOWN, self.decay.tolist(), strict=True) if math.isfinite(e)
        )
        where = "queries folded into the problem's smallest part" if self.folded else "all queries"
        return (
            f"Best possible error of a linear basis (POD of {where}, on solutions that it was not made from): {shown} modes.",
        )

    def _learnt(self, window: Window) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of the law, coefficients, and the square norm of each field."""
        if window.frames.shape[1] != 1:
            raise InputError(
                f"Reduced learns from steady fields, one frame a run; this window has {window.frames.shape[1]} frames."
            )
        self._settle()
        z, way, _ = self.scaled(window.parameters)
        u = self._flat(window.frames, way)
        return z, (u - self.mean) @ self.encoder, (u * self._root(u)).square().sum(1)

    def _flat(self, frames: Tensor, way: Tensor | None) -> Tensor:
        u = frames.flatten(1).to(self.mean)
        return u if way is None else self.problem.folded(u, way)  # type: ignore[attr-defined]

    def _root(self, like: Tensor) -> Tensor:
        """Square roots of the cell weights: what makes modes orthonormal in the grid's norm."""
        return self.grid.cell_weights().to(like).flatten().sqrt().repeat(len(self.channels))

    @torch.no_grad()
    def _settle(self) -> None:
        """Compute the basis, once; it is part of the state from then on."""
        if bool(self.encoder.any()):
            return
        problem, count = self.problem, self.snapshots
        held = max(20, count // 10)
        # A mesh below the grid's own has not the rank: as fine as the grid.
        setting = replace(problem.fast_setting, num_points=problem.reference_setting.num_points // 2)
        parameters = problem.sample_parameters(count + held, SEED)
        solver = problem.solver(setting)
        pieces = []
        for first in range(0, count + held, 32):
            part = {k: v[first : first + 32] for k, v in parameters.items()}
            pieces.append(solver(self.mean.new_empty(len(next(iter(part.values()))), 0, 1, *self.grid.shape), part))
        _, way, _ = self.scaled(parameters)
        u = self._flat(torch.cat(pieces), way).double()
        root = self._root(u)
        mean = u[:count].mean(0)
        _, sizes, right = torch.linalg.svd((u[:count] - mean) * root, full_matrices=False)
        modes = right[: self.law.outputs].mT
        self.mean.copy_(mean)
        self.encoder.copy_(root[:, None] * modes)
        self.decoder.copy_(modes.mT / root)
        self.spread.copy_(sizes[: len(self.spread)] / math.sqrt(count))
        rest = (u[count:] - mean) * root
        coefficients = rest @ right.mT
        norm = (u[count:] * root).norm(dim=1)
        for i, k in enumerate(SHOWN):
            if k < count:
                left = (rest.square().sum(1) - coefficients[:, :k].square().sum(1)).clamp(min=0).sqrt()
                self.decay[i] = (left / norm).mean()


SEED = 2**21
"""Of the snapshots: neither training nor verification uses it."""
