"""Implicit finite volumes for diffusion with storage: any step, nothing lost."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.sorption import LEAST, SorbingDiffusion
from slipstream.errors import InputError, UnstableStep
from slipstream.grids import Grid, resample
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters

MOST_SWEEPS = 60


def tridiagonal(
    lower: Float[Tensor, "*batch n"],
    diagonal: Float[Tensor, "*batch n"],
    upper: Float[Tensor, "*batch n"],
    right: Float[Tensor, "*batch n"],
) -> Float[Tensor, "*batch n"]:
    """Solves ``lower_i x_{i-1} + diagonal_i x_i + upper_i x_{i+1} = right_i`` for many systems; the first of `lower` and the last of
    `upper` are not used.

    Cyclic reduction: every second unknown is eliminated at once, log2(n) times. Differentiable; without pivots, so for diagonally
    dominant systems. Source: Hockney, J. ACM 12 (1965) 95.
    """
    n = diagonal.shape[-1]
    if n == 1:
        return right / diagonal
    if n % 2 == 0:  # an equation of its own at the end, so that every kept one has two neighbours
        pad = torch.nn.functional.pad
        upper = torch.cat([upper[..., :-1], torch.zeros_like(upper[..., :1])], dim=-1)
        return tridiagonal(
            pad(lower, (0, 1)), pad(diagonal, (0, 1), value=1.0), pad(upper, (0, 1)), pad(right, (0, 1))
        )[..., :-1]
    low, mid, up, r = (v[..., 0::2] for v in (lower, diagonal, upper, right))
    back, on = lower[..., 1::2] / mid[..., :-1], upper[..., 1::2] / mid[..., 1:]
    kept = tridiagonal(
        -back * low[..., :-1],
        diagonal[..., 1::2] - back * up[..., :-1] - on * low[..., 1:],
        -on * up[..., 1:],
        right[..., 1::2] - back * r[..., :-1] - on * r[..., 1:],
    )
    zero = torch.zeros_like(kept[..., :1])
    others = (r - low * torch.cat([zero, kept], -1) - up * torch.cat([kept, zero], -1)) / mid
    return torch.stack([torch.cat([kept, zero], -1), others], -1).flip(-1).flatten(-2)[..., :n]


@dataclass(frozen=True)
class DiagonallyImplicit:
    """Rows of a stiffly accurate Runge-Kutta tableau whose diagonal is one number: each stage is one implicit step."""

    name: str
    order: int
    rows: tuple[tuple[float, ...], ...]


_G = 1 - math.sqrt(0.5)
IMPLICIT_EULER = DiagonallyImplicit("implicit Euler", 1, ((1.0,),))
SDIRK2 = DiagonallyImplicit("SDIRK2", 2, ((_G,), (1 - _G, _G)))
"""Alexander, SIAM J. Numer. Anal. 14 (1977) 1006: L-stable."""


class SorptionStepper(Stepper):
    """Marches what is stored, m(u), by the fluxes through the faces of cells; u follows by Newton's method.

    The isotherm is concave and the matrix of each step has a positive inverse: Newton's iterates rise to the solution from below, from
    any start. Gradients are those of the solution, by one more step, not those of the iteration.

    Parameters
    ----------
    equation : its parameters may differ from run to run. grid : of the frames, values at the centres of cells.
    interval, substeps : time between frames (days), steps in it. scheme : tableau. num_points : of the inner grid.

    Raises
    ------
    UnstableStep : Newton's method did not converge, which concentrations below zero or non-finite ones can cause.
    """

    grid: Grid

    def __init__(
        self,
        equation: SorbingDiffusion,
        grid: Grid,
        interval: float,
        substeps: int = 1,
        scheme: DiagonallyImplicit = SDIRK2,
        num_points: int | None = None,
    ) -> None:
        super().__init__()
        if not (interval > 0 and substeps >= 1):
            raise InputError(f"interval must be positive and substeps at least 1; got {interval} and {substeps}.")
        self.equation, self.grid, self.interval, self.substeps = equation, grid, float(interval), substeps
        self.scheme, self.num_points = scheme, num_points or grid.shape[0]
        self.inner = grid.with_points(self.num_points)
        self.channels = equation.channels

    def _coefficients(self, u: Tensor, diffusivity: Tensor) -> tuple[Tensor, Tensor]:
        """Conductance of each of the n + 1 faces, (batch, 1, n + 1), over the width of a cell; and the wall's share of each end.

        The inlet is half a cell away. At the outlet ``-D u_x = v u`` with v = 1 m/day for the default D (see the equation): half
        a cell and the transfer in series.
        """
        h = self.inner.spacing[0]
        d = diffusivity.expand(diffusivity.shape[0], 1, 1)
        faces = (d / h**2).expand(-1, -1, u.shape[-1] + 1)
        transfer = d / self.equation.diffusivity
        out = 1 / (h / (2 * d) + 1 / transfer) / h
        return torch.cat([2 * faces[..., :1], faces[..., 1:-1], out], dim=-1), 2 * faces[..., :1]

    def flow(self, u: Float[Tensor, "batch 1 n"], p: Parameters) -> Float[Tensor, "batch 1 n"]:
        """What flows into each cell of the inner grid, over its width: ``D u_xx`` with both walls."""
        faces, inlet = self._coefficients(u, p["diffusivity"])
        end = torch.zeros_like(u[..., :1])
        through = faces * (torch.cat([end, u], -1) - torch.cat([u, end], -1))
        through = torch.cat([through[..., :1] + inlet.expand_as(end), through[..., 1:]], -1)
        return through[..., :-1] - through[..., 1:]

    def _implicit(self, u: Tensor, known: Tensor, dt: float, p: Parameters) -> Tensor:
        """The u with ``m(u) - dt flow(u) = known``, from a guess."""
        faces, _ = self._coefficients(u, p["diffusivity"])

        def correction(u: Tensor, left: Tensor) -> Tensor:
            diagonal = self.equation.retardation(u, p) + dt * (faces[..., :-1] + faces[..., 1:])
            lower, upper = (-dt * f.expand_as(u) for f in (faces[..., :-1], faces[..., 1:]))
            return tridiagonal(lower, diagonal, upper, left)

        enough = 1e-12 if u.dtype == torch.float64 else 2e-6
        with torch.no_grad():
            for _ in range(MOST_SWEEPS):
                new = (u - correction(u, self.equation.stored(u, p) - dt * self.flow(u, p) - known)).clamp(min=LEAST)
                change, u = float((new - u).abs().max()), new
                if change <= enough * max(1.0, float(u.max())):
                    break
            else:
                raise UnstableStep(
                    f"SorptionStepper: {MOST_SWEEPS} Newton steps left a change of {change:.3g} in the concentration "
                    f"(dt = {dt:.4g} days); check the state for values below zero or NaN."
                )
        if not (torch.is_grad_enabled() and (known.requires_grad or any(v.requires_grad for v in p.values()))):
            return u
        left = self.equation.stored(u, p) - dt * self.flow(u, p) - known
        with torch.no_grad():
            slopes = [v.detach() for v in (faces[..., :-1], faces[..., 1:])]
            diagonal = self.equation.retardation(u, p) + dt * (slopes[0] + slopes[1])
        return u - tridiagonal(-dt * slopes[0].expand_as(u), diagonal, -dt * slopes[1].expand_as(u), left)

    def step(self, u: Float[Tensor, "batch 1 n"], p: Parameters, dt: float) -> Float[Tensor, "batch 1 n"]:
        """One time step on the inner grid."""
        start = self.equation.stored(u, p)
        flows: list[Tensor] = []
        for row in self.scheme.rows:
            known = start
            for weight, f in zip(row[:-1], flows, strict=True):
                known = known + dt * weight * f
            u = self._implicit(u.detach(), known, dt * row[-1], p)
            flows.append(self.flow(u, p))
        return u

    def start(self, frames: Float[Tensor, "batch time channel *space"], parameters: Parameters) -> State:
        self.check(frames)
        u = resample(frames[:, -1], self.grid, self.inner)
        p = self.equation.ready(parameters, u)
        for name, spec in self.equation.parameters.items():
            spec.check(name, p[name])
        return State(u)

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        u = state.values
        p = self.equation.ready(parameters, u)
        for _ in range(self.substeps):
            u = self.step(u, p, self.interval / self.substeps)
        times, rest = divmod(self.num_points, self.grid.shape[0])
        # The centre of a cell is that of the middle one of an odd number of finer ones.
        frame = u[..., times // 2 :: times] if not rest and times % 2 else resample(u, self.inner, self.grid)
        return replace(state, values=u), frame[:, None]
