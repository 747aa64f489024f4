"""Incompressible flow with walls, inflows, outflows and obstacles: staggered finite volumes, made divergence-free by projection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.boundary import Conditions
from slipstream.equations.incompressible import BuoyantFlow, IncompressibleFlow
from slipstream.errors import InputError, UnstableStep
from slipstream.grids import Grid
from slipstream.solvers.implicit import ImplicitDiffusion
from slipstream.solvers.linear.method import Inverse, Preconditioner
from slipstream.solvers.lines import HEUN, RK4, Explicit
from slipstream.solvers.mac import Given, MacGrid
from slipstream.solvers.pressure import Pressure, PressureSolver
from slipstream.solvers.reconstructions import MUSCL_VAN_LEER, Reconstruction
from slipstream.solvers.regrid import regrid
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters

CENTRAL = Reconstruction("central", 2, 1, lambda a: a, False)
"""The mean of both cells: conserves kinetic energy but for the time step (Harlow & Welch 1965; Morinishi et al. 1998)."""


@dataclass(frozen=True)
class CrankNicolson:
    """Heun's method for what is carried along, the trapezoidal rule for viscosity: second order, no limit from viscosity.

    Each half is projected with the pressure of its own start taken off first (van Kan, SIAM J. Sci. Stat. Comput. 7 (1986) 870).
    Scalars diffuse explicitly.
    """

    name: str = "Crank-Nicolson"


@dataclass(frozen=True)
class Fractional:
    """A fractional-step scheme: how it steps in time, and how it finds what passes through faces.

    Parameters
    ----------
    time : an explicit tableau, each of whose stages is projected, or ``CrankNicolson()``.
    advection : of velocities: `CENTRAL`, or a reconstruction from upwind. scalars : of scalars.
    """

    time: Explicit | CrankNicolson = RK4
    advection: Reconstruction = CENTRAL
    scalars: Reconstruction = MUSCL_VAN_LEER

    @property
    def name(self) -> str:
        return f"{self.time.name}, {self.advection.name}"


@lru_cache
def limits(time: Explicit | CrankNicolson) -> tuple[float, float]:
    """The largest frequency and the largest decay, times dt, that a scheme carries: read off its stability polynomial."""
    tableau = time if isinstance(time, Explicit) else HEUN

    def largest(direction: complex, loose: float) -> float:
        size = 0.0
        while size < 20:
            z = torch.tensor((size + 0.01) * direction, dtype=torch.complex128)
            grown = tableau.step(torch.ones((), dtype=torch.complex128), lambda v, z=z: z * v, 1.0)  # type: ignore[misc]
            if float(grown.abs()) > 1 + loose:
                break
            size += 0.01
        return size

    # On the imaginary axis a little growth is allowed, which the least viscosity outweighs: Heun's method would have no limit there.
    return largest(1j, 0.02), largest(-1.0, 1e-9) if isinstance(time, Explicit) else float("inf")


@dataclass
class _Runs:
    """What does not change while some runs are marched."""

    viscosity: Tensor
    given: Given
    forces: list[Tensor | None]
    diffusivity: Tensor | None
    lift_rate: Tensor | None
    source: Tensor | None


for _cls in (Given, _Runs):
    torch.utils._pytree.register_dataclass(_cls)


class ProjectionStepper(Stepper):
    r"""Marches `IncompressibleFlow` or `BuoyantFlow` in two or three dimensions; differentiable in states and parameters.

    Frames hold velocities at the lower faces of cells, and scalars as cell averages. Their last faces are given by the conditions, or at an
    outflow by continuity, so frames are whole; a start that is not divergence-free is projected. Afterwards the divergence is that
    of rounding (transforms) or of the pressure solver's tolerance, and does not add up.

    Second order in space with `CENTRAL`, but for the first cells beside a staircase.

    Parameters
    ----------
    equation, interval : what, and the time between frames.
    grid : periodic or cell-centred along each axis.
    conditions : of all channels: ``Wall()``, ``Wall(moving={"velocity_x": 1.0})``, ``Wall(slip=True)``, `Dirichlet` or `Inflow` (the
        velocity), `Outflow` (pressure zero, nothing changes along the normal); with an obstacle if there is one. Cells whose
        centre it contains are solid. None: every axis is periodic.
    substeps : steps an interval.
    scheme : a `Fractional`.
    pressure_solver : None: transforms where there is no obstacle, else ``CG()`` with ``BoxInverse()``. Any `Method` of
        `slipstream.solvers.linear`, or a function (system, b) -> p, where system is a `Stencil` and b and p are (batch, \*space).
    preconditioner, tolerance, max_iterations : of the pressure solver; see `slipstream.solvers.linear.solve`.
    frames_grid : where frames live if not on `grid` (same box).
    guard : refuse a step beyond the limit.
    slip : whether fluid slides along the obstacle, or sticks to it.

    Raises
    ------
    InputError : conditions that do not fit; more flows in than out; an obstacle that leaves no fluid or shuts an inflow in.
    UnstableStep : a step is beyond the limit of the scheme (the message names the substeps that would do), or the pressure was not solved.

    Source: Harlow & Welch, Phys. Fluids 8 (1965) 2182; Chorin, Math. Comput. 22 (1968) 745.
    """

    grid: Grid
    channels: tuple[Channel, ...]

    def __init__(
        self,
        equation: IncompressibleFlow,
        grid: Grid,
        interval: float,
        conditions: Conditions | None = None,
        substeps: int = 1,
        scheme: Fractional = Fractional(),
        pressure_solver: PressureSolver | None = None,
        preconditioner: Preconditioner | Inverse | None = None,
        tolerance: float | None = None,
        max_iterations: int = 500,
        frames_grid: Grid | None = None,
        guard: bool = True,
        slip: bool = False,
    ) -> None:
        super().__init__()
        if not (interval > 0 and substeps >= 1):
            raise InputError(f"interval must be positive and substeps at least 1; got {interval} and {substeps}.")
        if grid.num_dims != equation.num_dims:
            raise InputError(
                f"{type(equation).__name__} has {equation.num_dims} dimensions; the grid has {grid.num_dims}."
            )
        if any(not a.periodic and not a.centred for a in grid.axes):
            raise InputError("A staggered grid is made of cells: axes with ends must be cell-centred (centred=True).")
        if frames_grid is not None and not frames_grid.same_box(grid):
            raise InputError(f"frames_grid must cover the same box as grid; got {frames_grid} and {grid}.")
        self.equation, self.interval, self.substeps, self.scheme = equation, float(interval), substeps, scheme
        self.conditions = conditions
        self.pressure_solver, self.preconditioner = pressure_solver, preconditioner
        self.tolerance, self.max_iterations, self.guard = tolerance, max_iterations, guard
        self.slip = slip
        self.inner, self.grid, self.frames_grid = grid, frames_grid or grid, frames_grid
        self.channels = equation.channels
        self._sides = conditions or Conditions(equation.channels, {})
        self._made: dict[tuple[torch.dtype, torch.device, bool], tuple[MacGrid, Pressure, ImplicitDiffusion]] = {}
        self._tools(torch.float64, torch.device("cpu"))  # what does not fit is refused now

    @property
    def dt(self) -> float:
        return self.interval / self.substeps

    def mac(self, like: Tensor, frames: bool = False) -> MacGrid:
        """The staggered grid, in the dtype and on the device of a tensor; that of the frames where told."""
        return self._tools(like.dtype, like.device, frames)[0]

    def _tools(
        self, dtype: torch.dtype, device: torch.device, frames: bool = False
    ) -> tuple[MacGrid, Pressure, ImplicitDiffusion]:
        frames = frames and self.frames_grid is not None
        key = dtype, device, frames
        if key not in self._made:
            with torch.inference_mode(False):
                grid = self.grid if frames else self.inner
                width = 2 if frames else max(self.scheme.advection.width, self._scalar_width)
                mac = MacGrid(grid, self.channels, self._sides, self._sides.obstacle, width, dtype, device, self.slip)
                pressure = Pressure(mac, self.pressure_solver, self.preconditioner, self.tolerance, self.max_iterations)
                self._made[key] = mac, pressure, ImplicitDiffusion(mac)
        return self._made[key]

    @property
    def _scalar_width(self) -> int:
        return self.scheme.scalars.width if self.equation.scalars else 1

    def start(self, frames: Float[Tensor, "batch time channel *space"], parameters: Parameters) -> State:
        self.check(frames)
        frame = frames[:, -1]
        if not bool(torch.isfinite(frame).all()):
            raise InputError(
                f"{type(self.equation).__name__} got a frame with non-finite values; check your data for NaN."
            )
        fields = self._fields(frame, parameters)
        runs = self._runs(fields, parameters)
        dims = self.inner.num_dims
        pressure = self._tools(frame.dtype, frame.device)[1]
        pressure.check(fields[:dims])
        fields = [*pressure.project(fields[:dims]), *fields[dims:]]
        return State((tuple(fields), parameters, runs))

    def _fields(self, frame: Tensor, parameters: Parameters) -> list[Tensor]:
        """Velocities on all faces and scalars, on the inner grid; not yet projected."""
        outer = self.mac(frame, frames=True)
        fields = [*outer.from_frames(frame, outer.given(frame, parameters)), *frame[:, outer.dims :].unbind(1)]
        if self.frames_grid is None or self.frames_grid.shape == self.inner.shape:
            return fields
        inner = self.mac(frame)
        moved = regrid(fields, outer, inner, outer.given(frame, parameters))
        return [*inner.from_frames(inner.to_frames(moved), inner.given(frame, parameters)), *moved[inner.dims :]]

    def project(
        self, frame: Float[Tensor, "batch channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        """The nearest divergence-free frame with the given values on walls and in solids; scalars stay. For outputs of networks."""
        mac, pressure, _ = self._tools(frame.dtype, frame.device, frames=True)
        u = pressure.project(mac.from_frames(frame, mac.given(frame, parameters)))
        return torch.cat([mac.to_frames(u), frame[:, mac.dims :]], 1)

    def divergence(
        self, frame: Float[Tensor, "batch channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch *space"]:
        """What leaves each cell of a frame, by volume and second."""
        mac = self.mac(frame, frames=True)
        return mac.divergence(mac.from_frames(frame, mac.given(frame, parameters)))

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        fields, known, runs = state.values
        fields, dims = list(fields), self.inner.num_dims
        mac, pressure, _ = self._tools(fields[0].dtype, fields[0].device)
        if known is not parameters:
            runs = self._runs(fields, parameters)
            held = mac.hold(fields[:dims], runs.given)
            pressure.check(held)
            fields = [*pressure.project(held), *fields[dims:]]
        for step in range(self.substeps):
            if self.guard:
                self._check_step(fields, runs, step)
            fields = self._step(fields, runs)
        frame = self._frame(fields, runs)
        return replace(state, values=(tuple(fields), parameters, runs)), frame[:, None]

    def _frame(self, fields: list[Tensor], runs: _Runs) -> Tensor:
        inner = self.mac(fields[0])
        if self.frames_grid is None or self.frames_grid.shape == self.inner.shape:
            return inner.to_frames(fields)
        outer = self.mac(fields[0], frames=True)
        return outer.to_frames(regrid(fields, inner, outer, runs.given))

    def _runs(self, fields: list[Tensor], parameters: Parameters) -> _Runs:
        mac, equation = self.mac(fields[0]), self.equation
        like = fields[0].new_empty(fields[0].shape[0], len(self.channels), *self.inner.shape)
        p = equation.ready(parameters, like)
        for name, spec in equation.parameters.items():
            spec.check(name, p[name])
            if name in ("viscosity", "diffusivity", "lift_rate") and p[name][0].numel() > 1:
                raise InputError(f"The staggered solver takes one {name} a run; got a field {tuple(p[name].shape)}.")
        column = {name: value[:, 0] for name, value in p.items()}
        forces: list[Tensor | None] = []
        for i, nodes in enumerate(mac.nodes):
            force = equation.acceleration(nodes.coordinates(torch.float64).to(like))
            forces.append(None if force is None else force[i] * mac.free[i])
        buoyant = isinstance(equation, BuoyantFlow)
        source = None
        if buoyant and equation.source_given is not None:  # type: ignore[attr-defined]
            source = equation.source_given(mac.coordinates, column) * mac.fluid  # type: ignore[attr-defined]
        return _Runs(
            column["viscosity"],
            mac.given(like, parameters),
            forces,
            column.get("diffusivity") if buoyant else None,
            column.get("lift_rate") if buoyant else None,
            source,
        )

    def _step(self, fields: list[Tensor], runs: _Runs) -> list[Tensor]:
        time = self.scheme.time
        if isinstance(time, CrankNicolson):
            return self._crank_nicolson(fields, runs)
        sizes, shapes = [f[0].numel() for f in fields], [f.shape for f in fields]

        def apart(flat: Tensor) -> list[Tensor]:
            return [t.reshape(s) for t, s in zip(flat.split(sizes, dim=1), shapes, strict=True)]

        def together(parts: list[Tensor]) -> Tensor:
            return torch.cat([t.flatten(1) for t in parts], 1)

        return apart(
            time.step(together(fields), lambda flat: together(self._rate(apart(flat), runs, self.dt)), self.dt)
        )

    def _rate(self, fields: list[Tensor], runs: _Runs, dt: float | None) -> list[Tensor]:
        """Projected rates. With `dt` they take away the divergence that rounding or an iteration has left, so that it cannot add up."""
        mac, pressure, _ = self._tools(fields[0].dtype, fields[0].device)
        carried, spread, warmed = self._terms(fields, runs)
        total = [a + b for a, b in zip(carried, spread, strict=True)]
        excess = mac.divergence(total)
        if dt is not None:
            excess = torch.add(excess, mac.divergence(fields[: mac.dims]), alpha=1 / dt)
        slopes = mac.gradient(pressure.solve(-excess))
        return [*(a - b for a, b in zip(total, slopes, strict=True)), *warmed]

    def _crank_nicolson(self, fields: list[Tensor], runs: _Runs) -> list[Tensor]:
        mac, pressure, implicit = self._tools(fields[0].dtype, fields[0].device)
        dt, dims = self.dt, mac.dims
        u, scalars = fields[:dims], fields[dims:]
        half = 0.5 * dt * runs.viscosity

        def moved(total: list[Tensor]) -> list[Tensor]:
            change = implicit.solve([dt * q for q in total], half)
            return pressure.project([v + c for v, c in zip(u, change, strict=True)])

        carried, spread, warmed = self._terms(fields, runs)
        guess = moved([a + b for a, b in zip(carried, spread, strict=True)])
        later, _, hotter = self._terms([*guess, *(s + dt * w for s, w in zip(scalars, warmed, strict=True))], runs)
        total = [0.5 * (a + b) + c for a, b, c in zip(carried, later, spread, strict=True)]
        u_new = moved(pressure.project(total))
        return [*u_new, *(s + 0.5 * dt * (a + b) for s, a, b in zip(scalars, warmed, hotter, strict=True))]

    def _terms(self, fields: list[Tensor], runs: _Runs) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """What advection and forces, and what viscosity do to each velocity, and the rates of scalars; nothing on faces that are given."""
        mac, given = self.mac(fields[0]), runs.given
        d, w, h = mac.dims, mac.width, mac.grid.spacing
        u = fields[:d]
        wide = [[mac.grow(u[i], i, a, given) for a in range(d)] for i in range(d)]

        def near(i: int, a: int) -> Tensor:
            return wide[i][a] if w == 1 else wide[i][a].narrow(a + 1, w - 1, wide[i][a].shape[a + 1] - 2 * w + 2)

        def mean(v: Tensor, a: int) -> Tensor:
            n = v.shape[a + 1] - 1
            return 0.5 * (v.narrow(a + 1, 0, n) + v.narrow(a + 1, 1, n))

        ones = [[near(i, a) for a in range(d)] for i in range(d)]
        means = [[mean(ones[i][a], a) for a in range(d)] for i in range(d)]
        carried, spread = [], []
        shared: dict[tuple[int, int], Tensor] = {}
        for i in range(d):
            total, lap = runs.forces[i], None
            for a in range(d):
                speed = means[i][i] if i == a else means[a][i]
                if self.scheme.advection is CENTRAL:
                    if (a, i) not in shared:  # the momentum along i that crosses a is that along a that crosses i
                        shared[i, a] = speed * means[i][a]
                    flux = shared[i, a] if (i, a) in shared else shared[a, i]
                else:
                    flux = _upwind(speed, wide[i][a], a + 1, w, self.scheme.advection)
                slope = flux.diff(dim=a + 1)
                total = slope * (-1 / h[a]) if total is None else torch.sub(total, slope, alpha=1 / h[a])
                bend = ones[i][a].diff(n=2, dim=a + 1)
                lap = bend * (1 / h[a] ** 2) if lap is None else torch.add(lap, bend, alpha=1 / h[a] ** 2)
            assert total is not None
            assert lap is not None
            drag = mac.drag[i]
            lap = lap if drag is None else torch.addcmul(lap, drag, u[i])
            carried.append(total)
            spread.append(lap * (runs.viscosity * mac.free[i]))
        warmed = []
        for k, scalar in enumerate(fields[d:], start=d):
            warmed.append(self._scalar_rate(u, scalar, k, runs))
            if runs.lift_rate is not None:
                up = d - 1
                face = mean(self._near_scalar(scalar, k, up, given), up)
                carried[up] = carried[up] + runs.lift_rate * face
        return [c * m for c, m in zip(carried, mac.free, strict=True)], spread, warmed

    def _near_scalar(self, scalar: Tensor, k: int, a: int, given: Given) -> Tensor:
        mac = self.mac(scalar)
        wide = mac.grow(scalar, k, a, given)
        return wide.narrow(a + 1, mac.width - 1, scalar.shape[a + 1] + 2)

    def _scalar_rate(self, u: list[Tensor], scalar: Tensor, k: int, runs: _Runs) -> Tensor:
        mac, rate, spread = self.mac(scalar), runs.source, runs.diffusivity
        assert spread is not None
        for a, h in enumerate(mac.grid.spacing):
            wide = mac.grow(scalar, k, a, runs.given)
            flux = _upwind(u[a], wide, a + 1, mac.width, self.scheme.scalars)
            slope = wide.narrow(a + 1, mac.width - 1, scalar.shape[a + 1] + 2).diff(dim=a + 1) / h
            through = flux - spread * slope * ~mac.blocked[a] if mac.solid else flux - spread * slope
            less = through.diff(dim=a + 1) / h
            rate = -less if rate is None else rate - less
        assert rate is not None
        return rate

    def rate(
        self, frame: Float[Tensor, "batch channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        """The time derivative of frames that live on the solver's own grid."""
        fields = self._fields(frame, parameters)
        return self.mac(frame).to_frames(self._rate(fields, self._runs(fields, parameters), None))

    def largest_dt(
        self, frame: Float[Tensor, "batch channel *space"], parameters: Parameters
    ) -> Float[Tensor, " batch"]:
        """The largest step of each run that the scheme carries, by advection and diffusion together."""
        with torch.no_grad():
            fields = self._fields(frame, parameters)
            return self._limit(fields, self._runs(fields, parameters))

    def _limit(self, fields: list[Tensor], runs: _Runs) -> Tensor:
        swing, fall = limits(self.scheme.time)
        explicit = limits(self.scheme.time if isinstance(self.scheme.time, Explicit) else HEUN)[1]
        if self.equation.scalars or self.scheme.advection is not CENTRAL:
            swing = min(swing, explicit / 2)  # an upwind difference damps, by up to twice what it moves
        stretch = 4 * sum(1 / h**2 for h in self.inner.spacing)
        with torch.no_grad():
            rates = fields[0].new_zeros(fields[0].shape[0])
            for v, h in zip(fields, self.inner.spacing, strict=False):  # velocities come first
                rates = rates + v.flatten(1).abs().amax(1) / h
            spread = runs.viscosity.flatten() * stretch / fall
            if runs.diffusivity is not None:
                spread = torch.maximum(spread, runs.diffusivity.flatten() * stretch / explicit)
            return 1 / (rates / swing + spread).clamp(min=1e-30)

    def _check_step(self, fields: list[Tensor], runs: _Runs, step: int) -> None:
        limit = self._limit(fields, runs)
        if bool((limit >= self.dt).all()):
            return
        if not bool(torch.isfinite(limit).all()):
            raise UnstableStep(
                f"{type(self.equation).__name__} left finite numbers at step {step + 1} of an interval; use more substeps."
            )
        smallest = float(limit.min())
        raise UnstableStep(
            f"{type(self.equation).__name__}: dt = {self.dt:.4g} at step {step + 1} of the interval exceeds the limit {smallest:.4g} of "
            f"{self.scheme.name} on {self.inner.shape} points (run {int(limit.argmin())}). "
            f"Use substeps={int(-(-self.interval // (0.8 * smallest)))} or more, or guard=False."
        )

    def advice(self, frames: Float[Tensor, "batch time channel *space"], parameters: Parameters) -> str:
        limit = float(self.largest_dt(frames[:, -1], parameters).min())
        return f"dt = {self.dt:.4g}; the limit of {self.scheme.name} for the last finite state is {limit:.4g}. Use more substeps."


def _upwind(speed: Tensor, wide: Tensor, dim: int, width: int, reconstruction: Reconstruction) -> Tensor:
    """What a speed at faces carries through them, from a field with `width` ghost points."""
    spare = width - reconstruction.width
    if spare:
        wide = wide.narrow(dim, spare, wide.shape[dim] - 2 * spare)
    low, high = reconstruction.sides(wide, dim)
    if reconstruction is CENTRAL:
        return speed * 0.5 * (low + high)
    return torch.where(speed > 0, speed * low, speed * high)
