"""Finite volumes: what leaves one cell enters the next."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.boundary import Conditions
from slipstream.equations.equation import Equation
from slipstream.equations.ghosts import pad_axis
from slipstream.equations.walled import WalledDifferences
from slipstream.errors import InputError, UnstableStep
from slipstream.grids import Grid
from slipstream.solvers.lines import SSPRK3, Explicit
from slipstream.solvers.reconstructions import MUSCL_VAN_LEER, Reconstruction
from slipstream.solvers.riemann import Riemann, Rusanov
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters

LIMIT = 1.0
"""Largest dt times the sum over axes of speed / spacing at which strong-stability-preserving schemes carry these reconstructions."""
DIFFUSIVE = 2.0
"""Largest dt times the fastest decay of the remainder that every explicit scheme carries."""


class VolumeStepper(Stepper):
    """Marches an equation with `flux` and `max_speed` by finite volumes; conserves to rounding on periodic boxes. Differentiable.

    Frames are cell averages. Reconstruction is axis by axis with one point a face: the order is the reconstruction's in 1D and
    for linear fluxes, and 2 where a nonlinear flux meets several dimensions. What `Equation.remainder` gives (diffusion, sources) is added
    by central differences, whose fastest decay limits the step as well: about dx^2 / (2 dims nu).

    Parameters
    ----------
    equation, grid, interval : the grid is periodic or cell-centred along each axis.
    conditions : of the sides; None where every axis is periodic.
    substeps : steps an interval; or
    cfl : steps as long as this fraction of the limit for advection and diffusion together, each run its own. One of the two is
        given (default: cfl=0.4).
    reconstruction : `UPWIND`, `MUSCL_MINMOD`, `MUSCL_VAN_LEER`, `MUSCL_MC` or `WENO5`.
    riemann : ``Rusanov()``, or ``HLLC()`` for `Euler`.
    scheme : an explicit tableau; `SSPRK3` keeps limited reconstructions free of new extrema.
    guard : refuse steps beyond the limit, and states that the equation does not admit.

    Raises
    ------
    UnstableStep : a step exceeds the limit (the message names the substeps that would do), or density or pressure became negative.
    """

    grid: Grid

    def __init__(
        self,
        equation: Equation,
        grid: Grid,
        interval: float,
        conditions: Conditions | None = None,
        substeps: int | None = None,
        cfl: float | None = None,
        reconstruction: Reconstruction = MUSCL_VAN_LEER,
        riemann: Riemann = Rusanov(),  # noqa: B008 - has no state
        scheme: Explicit = SSPRK3,
        guard: bool = True,
    ) -> None:
        super().__init__()
        if not interval > 0 or (substeps is not None and (cfl is not None or substeps < 1)):
            raise InputError(
                f"VolumeStepper needs interval > 0 and one of substeps >= 1 and cfl; got {interval}, substeps={substeps}, cfl={cfl}."
            )
        if cfl is not None and not 0 < cfl <= LIMIT:
            raise InputError(f"cfl is a fraction of the largest step, in (0, {LIMIT:g}]; got {cfl}.")
        if any(not a.periodic and not a.centred for a in grid.axes):
            raise InputError("Finite volumes hold cell averages: axes with ends must be cell-centred (centred=True).")
        if conditions is not None and conditions.obstacle is not None:
            raise InputError("VolumeStepper knows sides, not obstacles inside the domain.")
        riemann.check(equation)
        self.equation, self.grid, self.interval = equation, grid, float(interval)
        self.conditions, self.substeps, self.cfl = conditions, substeps, cfl
        self.reconstruction, self.riemann, self.scheme, self.guard = reconstruction, riemann, scheme, guard
        self.channels = equation.channels
        self._sides = conditions or Conditions(equation.channels, {})
        self._sides.check(grid)

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        u = state.values[:, -1]
        p = self.equation.ready(parameters, u)
        for name, spec in self.equation.parameters.items():
            spec.check(name, p[name])
        d = WalledDifferences(self.grid, self._sides, parameters, u.dtype, u.device)
        left = torch.full((u.shape[0],), self.interval, dtype=torch.float64, device=u.device)
        steps = torch.zeros_like(left)
        decay = self._decay(u, d, p)
        done = 0
        while bool((left > 0).any()):
            dt = self._step_sizes(u, p, decay, left, done)
            size = dt.to(u.dtype).reshape([-1] + [1] * (u.ndim - 1))
            u = self.scheme.step(u, lambda v, size=size: size * self._rate(v, d, p, parameters), 1.0)  # type: ignore[misc]
            left = torch.where(dt >= left, 0.0, left - dt)
            done, steps = done + 1, steps + (dt > 0)
            if self.substeps is not None and done == self.substeps:
                break
        if self.guard:
            self._admit(u, p)
        return replace(state, values=u[:, None], stats={"steps": steps}), u[:, None]

    def rate(
        self, u: Float[Tensor, "batch channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        """The time derivative of cell averages: flux in less flux out, and the remainder."""
        d = WalledDifferences(self.grid, self._sides, parameters, u.dtype, u.device)
        return self._rate(u, d, self.equation.ready(parameters, u), parameters)

    def _rate(self, u: Tensor, d: WalledDifferences, p: Parameters, given: Parameters) -> Tensor:
        remainder = self.equation.remainder(u, d, p)
        total = torch.zeros_like(u) if remainder is None else remainder
        for i, h in enumerate(self.grid.spacing):
            padded = pad_axis(u, self.grid, self._sides, i, self.reconstruction.width, given)
            low, high = self.reconstruction.sides(padded, i + 2)
            through = self.riemann.flux(self.equation, low, high, i, self._on_faces(p, i))
            total = torch.sub(total, through.diff(dim=i + 2), alpha=1 / h)
        return total

    def _on_faces(self, p: Parameters, axis: int) -> Parameters:
        """Parameters that are fields, at faces: the mean of both cells."""
        dim, periodic = axis + 2, self.grid.axes[axis].periodic

        def carried(value: Tensor) -> Tensor:
            if value.ndim <= dim or value.shape[dim] == 1:
                return value
            n = value.shape[dim]
            ends = (value.narrow(dim, n - 1, 1), value.narrow(dim, 0, 1))
            wide = torch.cat([ends[0], value, ends[1]] if periodic else [ends[1], value, ends[0]], dim)
            return 0.5 * (wide.narrow(dim, 0, n + 1) + wide.narrow(dim, 1, n + 1))

        return {name: carried(value) for name, value in p.items()}

    def largest_dt(self, u: Float[Tensor, "batch channel *space"], parameters: Parameters) -> Float[Tensor, " batch"]:
        """The largest step of each run, by advection and diffusion together; infinite where nothing moves."""
        d, p = (
            WalledDifferences(self.grid, self._sides, parameters, u.dtype, u.device),
            self.equation.ready(parameters, u),
        )
        return self._limit(u, p, self._decay(u, d, p))

    def _decay(self, u: Tensor, d: WalledDifferences, p: Parameters) -> Tensor:
        """The fastest decay of the remainder: what it makes of a checkerboard, the stiffest field of a grid."""
        with torch.no_grad():
            here = self.equation.remainder(u, d, p)
            if here is None:
                return torch.zeros(u.shape[0], dtype=torch.float64, device=u.device)
            size = 1e-2 * u.abs().amax() + 1e-6
            index = sum(torch.meshgrid(*(torch.arange(n, device=u.device) for n in self.grid.shape), indexing="ij"))
            there = self.equation.remainder(u + size * (1 - 2 * (index % 2)), d, p)
            assert there is not None
            return ((there - here) / size).flatten(1).abs().amax(1).to(torch.float64)

    def _limit(self, u: Tensor, p: Parameters, decay: Tensor) -> Tensor:
        with torch.no_grad():
            rates = torch.zeros_like(u[:, :1])
            for i, h in enumerate(self.grid.spacing):
                speed = self.equation.max_speed(u, i, p)
                if speed is None:
                    raise InputError(
                        f"{type(self.equation).__name__} has no flux form (flux, max_speed): use SpectralStepper or LinesStepper."
                    )
                rates = rates + speed / h
            return 1 / (rates.flatten(1).amax(1).to(torch.float64) / LIMIT + decay / DIFFUSIVE)

    def _step_sizes(self, u: Tensor, p: Parameters, decay: Tensor, left: Tensor, done: int) -> Tensor:
        if self.guard:
            self._admit(u, p)
        limit = self._limit(u, p, decay)
        if self.substeps is None:
            dt = limit * (0.4 if self.cfl is None else self.cfl)
            # Two equal steps at the end in place of a full one and a sliver.
            return torch.where(dt >= left, left, torch.where(2 * dt >= left, left / 2, dt))
        fixed = self.interval / self.substeps
        if self.guard and not bool((limit >= fixed).all()):
            smallest = float(limit.min())
            raise UnstableStep(
                f"{type(self.equation).__name__}: dt = {fixed:.4g} at step {done + 1} of the interval exceeds the limit "
                f"{smallest:.4g} of run {int(limit.argmin())}. Use substeps={-(-self.interval // smallest):.0f} or more, "
                "or cfl=0.4 in place of substeps."
            )
        return torch.full_like(left, fixed)

    def _admit(self, u: Tensor, p: Parameters) -> None:
        self.equation.admit(u, p)
        if not bool(torch.isfinite(u.detach()).all()):
            raise UnstableStep(
                f"{type(self.equation).__name__} left finite numbers; use a smaller step or a more cautious reconstruction (MUSCL_MINMOD)."
            )
