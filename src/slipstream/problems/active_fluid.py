"""A ready-made problem of active turbulence, with angular truncation and moment closures as its classical rivals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.active_fluid import ActiveSuspension, Bingham, Closure, Geometric, Truncated
from slipstream.errors import InputError
from slipstream.problems.periodic import PeriodicProblem, smooth_field
from slipstream.problems.problem import Setting
from slipstream.solvers.schemes import ETDRK2, ETDRK4, Scheme
from slipstream.solvers.spectral import SpectralStepper
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters


@dataclass(frozen=True)
class Angular:
    """How the angle is treated beside time: so many moments, what stands for the next, and sweeps of the flow's own stress."""

    scheme: Scheme
    moments: int
    closure: Closure = field(default_factory=Truncated)
    sweeps: int = 3

    @property
    def name(self) -> str:
        return f"{self.scheme.name} {self.moments} moments ({type(self.closure).__name__.lower()})"


class OtherMoments(Stepper):
    """A solver that marches more or fewer moments than its frames hold.

    Moments that frames lack start from zero; those that the solver lacks are what its closure says, and beyond that what a geometric
    series would.

    Parameters
    ----------
    stepper : of an `ActiveSuspension`. moments : that frames hold.
    """

    def __init__(self, stepper: SpectralStepper, moments: int) -> None:
        super().__init__()
        self.stepper, self.moments = stepper, moments
        self.interval, self.grid = stepper.interval, stepper.grid
        assert isinstance(stepper.equation, ActiveSuspension)
        self._inner = stepper.equation.moments
        self._closure = stepper.equation.closure
        self.channels = ActiveSuspension(moments=moments).channels

    def start(self, frames: Float[Tensor, "batch time channel *space"], parameters: Parameters) -> State:
        self.check(frames)
        u = frames[:, -1:, : 1 + 2 * self._inner]
        missing = 2 * (self._inner - self.moments)
        if missing > 0:
            u = torch.cat([u, u.new_zeros(*u.shape[:2], missing, *u.shape[3:])], dim=2)
        return self.stepper.start(u, parameters)

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        state, u = self.stepper.advance(state, parameters, generator)
        u = u[:, :, : 1 + 2 * self.moments]
        if self._inner >= self.moments:
            return state, u
        c, z = u[:, 0, :1], torch.complex(u[:, 0, 1::2].contiguous(), u[:, 0, 2::2].contiguous())
        while z.shape[1] < self.moments:
            last = self._closure if z.shape[1] == self._inner or isinstance(self._closure, Truncated) else Geometric()
            z = torch.cat([z, last(c, z)], dim=1)
        parts = torch.stack([z.real, z.imag], dim=2).flatten(1, 2)
        return state, torch.cat([c, parts], dim=1)[:, None]


class ActiveTurbulence(PeriodicProblem):
    r"""Rods that push the fluid around them: from weak order to jets and vortices that never settle.

    .. math::
        \partial_t Z_j + u \cdot \nabla Z_j = i j \omega Z_j + j (q Z_{j-1} - \bar q Z_{j+1}) + d_T \Delta Z_j - 4 j^2 d_R Z_j

    Frames: concentration and angular moments. The reference marches twice as many moments. The ladder holds what is known to be fast: the
    angle cut after a few moments, the Bingham closure, the quadratic closure, and two moments with a geometric third.

    Parameters
    ----------
    num_points : along each axis, even. moments : that frames hold.
    dipole : alpha. density : beta. alignment : zeta, a number, or a range (low, high) over runs. diffusivity, rotation : d_T, d_R.
    interval : time between frames. extent : side of the square. order : typical strength of the initial order. highest : periods of its
        finest wave.
    """

    refinement = "twice the points, steps and moments"

    def __init__(
        self,
        num_points: int = 64,
        moments: int = 8,
        dipole: float = -2.0,
        density: float = 0.8,
        alignment: float | Sequence[float] = (0.3, 0.8),
        diffusivity: float = 0.05,
        rotation: float = 0.05,
        interval: float = 0.25,
        extent: float = 10.0,
        order: float = 0.3,
        highest: int = 4,
    ) -> None:
        self.num_points, self.moments, self.dipole, self.density = num_points, moments, dipole, density
        self.alignment, self.diffusivity, self.rotation = alignment, diffusivity, rotation
        self.interval, self.extent, self.order, self.highest = interval, extent, order, highest
        self._box(num_points, extent, interval, 2)
        if not (order > 0 and 1 <= highest <= num_points // 4):
            raise InputError(
                f"{self.name} expects order > 0 and highest from 1 to num_points / 4; got {order} and {highest}."
            )
        low = self._vary(alignment=alignment)["alignment"]
        self.equation = self._with(low, moments, Truncated())
        steps = max(1, math.ceil(interval / 0.05))
        self.fast_setting = Setting(num_points, steps, Angular(ETDRK2, moments))
        self.reference_setting = Setting(
            2 * math.ceil(0.75 * num_points), 2 * steps, Angular(ETDRK4, 2 * moments, sweeps=8)
        )

    def _with(self, alignment: float, moments: int, closure: Closure, sweeps: int = 8) -> ActiveSuspension:
        return ActiveSuspension(
            self.dipole, self.density, alignment, self.diffusivity, self.rotation, moments, closure, sweeps
        )

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        """A Bingham distribution at every point, with a random direction and strength."""
        real, imaginary = (smooth_field(self.grid, generator, self.highest, 1.5 * self.order) for _ in range(2))
        angle = math.pi * torch.arange(128, dtype=torch.float64) / 128
        turned = [(torch.cos(2 * j * angle), torch.sin(2 * j * angle)) for j in range(self.moments + 1)]
        weight = torch.exp(real[..., None] * turned[1][0] + imaginary[..., None] * turned[1][1])
        weight = weight / weight.sum(-1, keepdim=True)
        orders = [(weight * part).sum(-1) for pair in turned[1:] for part in pair]
        return torch.stack([torch.ones_like(real), *orders])

    def solver(self, setting: Setting | None = None, *, guard: bool = True) -> Stepper:
        s = setting or self.fast_setting
        if not isinstance(s.scheme, Angular):
            raise InputError(f"{self.name} is solved by `Angular` schemes; got {s.scheme.name}.")
        equation = self._with(self.equation.alignment, s.scheme.moments, s.scheme.closure, s.scheme.sweeps)
        inner = self.grid.with_points(list(self.points(s)))
        outer = None if inner.shape == self.grid.shape else self.grid
        stepper = SpectralStepper(equation, inner, self.interval, s.substeps, s.scheme.scheme, outer, guard)
        return stepper if s.scheme.moments == self.moments else OtherMoments(stepper, self.moments)

    equation: ActiveSuspension

    def ladder(self) -> list[Setting]:
        n, steps = self.num_points, self.fast_setting.substeps
        fewer = sorted({m for m in (3, 4, 6, 8, 12, self.moments) if m <= self.moments})
        angles = [(1, Bingham(terms=20)), (1, Geometric()), (2, Geometric()), *((m, Truncated()) for m in fewer)]
        coarse = 2 * round(0.375 * n)
        return [
            Setting(points, count, Angular(scheme, m, closure))
            for points in (coarse, n)
            for m, closure in angles
            for scheme, count in ((ETDRK2, max(1, steps // 2)), (ETDRK2, steps), (ETDRK4, max(1, steps // 2)))
        ]

    def reference_error(
        self, frames: Float[Tensor, "run time channel *space"], parameters: Parameters, steps: int
    ) -> Float[Tensor, " step"]:
        """How far the reference is from itself with points, steps and moments doubled: relative L2, the largest over runs."""
        s, first = self.reference_setting, frames.shape[1]
        assert isinstance(s.scheme, Angular)
        finer = Setting(2 * s.num_points, 2 * s.substeps, replace(s.scheme, moments=2 * s.scheme.moments))
        with torch.no_grad():
            pair = (self.reference(), self.solver(finer))
            u, v = (self.march(x, frames.double(), parameters, steps + first)[:, first:] for x in pair)
        return ((u - v).flatten(2).norm(dim=-1) / v.flatten(2).norm(dim=-1).clamp(min=1e-30)).amax(0)
