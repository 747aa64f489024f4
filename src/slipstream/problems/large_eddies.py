"""Ready-made problems of which frames show the large eddies alone: trusted ones from a finer simulation, through a filter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.calculus import Calculus
from slipstream.equations.closures import LILLY, SmagorinskyFlow, SmagorinskyVorticity
from slipstream.equations.flow import VorticityFlow
from slipstream.equations.navier_stokes import NavierStokes
from slipstream.equations.spectral import Spectral
from slipstream.equations.symbols import laplacian
from slipstream.errors import InputError
from slipstream.problems.periodic import PeriodicProblem, smooth_field
from slipstream.problems.problem import Setting
from slipstream.solvers.filtered import CutOff, Filter, FilteredStepper, Gaussian
from slipstream.solvers.schemes import ETDRK2, ETDRK4, Scheme
from slipstream.solvers.spectral import SpectralStepper
from slipstream.stepper import Stepper
from slipstream.trajectories import Parameters


@dataclass(frozen=True)
class LargeEddy:
    """A scheme for the equation closed by Smagorinsky's eddy viscosity; the filter is as wide as the grid's kept wavenumbers tell."""

    time: Scheme = ETDRK2
    smagorinsky: float = LILLY

    @property
    def name(self) -> str:
        return f"Smagorinsky {self.smagorinsky:g} {self.time.name}"


class FilteredProblem(PeriodicProblem):
    """A flow of which frames show what a filter leaves. The reference resolves the flow; the rivals on the frame's grid and below solve
    the equation as it stands (no closure) or with Smagorinsky's. Runs begin with fields that the frame's grid resolves whole.

    `rate` is the equation without a closure: between frames and it lies what the hidden scales do.
    """

    equation: VorticityFlow | NavierStokes
    detail: int
    filter: Filter

    def _view(self, detail: int, gaussian: float) -> None:
        if detail < 1 or not 0 <= gaussian <= 4:
            raise InputError(f"{self.name} expects detail >= 1 and gaussian in [0, 4]; got {detail} and {gaussian}.")
        self.detail, self.gaussian = detail, gaussian
        self.filter = Gaussian(gaussian) if gaussian else CutOff()

    def _steps_for(self, speed: float) -> None:
        self._speed, n = speed, self.grid.shape[0]
        self.fast_setting = Setting(n, self._steps(n), ETDRK2)
        self.reference_setting = Setting(self.detail * n, self._steps(self.detail * n), ETDRK4)

    def _steps(self, num_points: int, cfl: float = 0.4) -> int:
        return max(1, math.ceil(self.interval * self._speed * num_points / self.grid.extent[0] / cfl))

    def solver(self, setting: Setting | None = None, *, guard: bool = True) -> Stepper:
        s = setting or self.fast_setting
        inner = self.grid.with_points(list(self.points(s)))
        outer = None if inner.shape == self.grid.shape else self.grid
        scheme, equation = s.scheme, self.equation
        if isinstance(scheme, LargeEddy):
            kept = 2 * math.pi / max(inner.extent) * ((min(inner.shape) - 1) // 3)
            given = {"width": math.pi / kept, "smagorinsky": scheme.smagorinsky}
            if isinstance(equation, NavierStokes):
                equation = SmagorinskyFlow(equation.viscosity, **given)
            else:
                equation = SmagorinskyVorticity(equation.viscosity, equation.drag, equation.forcing, **given)
            scheme = scheme.time
        if not isinstance(scheme, Scheme):
            raise InputError(f"{self.name} is solved by spectral steps; got the scheme {s.scheme.name}.")
        stepper = SpectralStepper(equation, inner, self.interval, s.substeps, scheme, outer, guard)
        return stepper if isinstance(self.filter, CutOff) else FilteredStepper(stepper, self.filter)

    def ladder(self) -> list[Setting]:
        n = self.grid.shape[0]
        finer = [n * f // 2 for f in range(3, 2 * self.detail, 1)]
        result = []
        for m in sorted({max(8, 2 * round(n * f / 2)) for f in (0.5, 0.75, 1.0)} | {2 * (f // 2) for f in finer}):
            steps = sorted({self._steps(m, 0.8), self._steps(m)})
            schemes: list[Scheme | LargeEddy] = [ETDRK2, ETDRK4]
            if m <= n:
                schemes += [LargeEddy(ETDRK2, c) for c in (0.1, LILLY)]
            result += [Setting(m, k, s) for s in schemes for k in steps]
        return result

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        return self.filter.apply(self.whole(generator)[None], self.grid)[0]

    def whole(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        """The initial state as it is before the filter (float64)."""
        raise TypeError(f"{self.name} defines no whole(generator).")

    def rate(
        self, u: Float[Tensor, "batch channel *space"], parameters: Parameters, calculus: Calculus | None = None
    ) -> Float[Tensor, "batch channel *space"]:
        """The time derivative of frames without any closure: undone, moved on, filtered."""
        moved = super().rate(self.filter.apply(u, self.grid, undo=True), parameters, calculus)
        return self.filter.apply(moved, self.grid)


class MixingLayer(FilteredProblem):
    r"""Two streams slide past each other, roll up into billows, and these pair: a temporal mixing layer, and its mirror image.

    .. math:: \partial_t \omega + u \cdot \nabla \omega = \nu \Delta \omega, \qquad \bar u_x = \pm \tanh(y / \delta)

    Frames: vorticity (1/s) that the frame's grid resolves, of a simulation on `detail` times as many points. The streams run at
    1 m/s either way; the layers lie at a quarter and three quarters of the height. Waves of wavenumber 0.44 / delta grow fastest,
    at 0.19 / delta.

    Parameters
    ----------
    num_points : of frames along each axis, even. reynolds : 1 m/s * delta / viscosity, may be a range (low, high) over runs.
    interval : time between frames. extent : side of the square. thickness : delta relative to the extent. disturbance : rms of
        the random vorticity relative to that of the layers. detail : points of the trusted simulation over those of frames.
    gaussian : width of a Gaussian filter in spacings of frames; 0 is the spectral cut-off alone.

    References
    ----------
    Michalke, J. Fluid Mech. 19 (1964) 543: the growth of waves on a tanh layer.
    """

    def __init__(
        self,
        num_points: int = 64,
        reynolds: float | Sequence[float] = 100.0,
        interval: float = 0.1,
        extent: float = 2 * math.pi,
        thickness: float = 1 / 30,
        disturbance: float = 0.1,
        detail: int = 3,
        gaussian: float = 0.0,
    ) -> None:
        self.num_points, self.reynolds, self.interval, self.extent = num_points, reynolds, interval, extent
        self.thickness, self.disturbance = thickness, disturbance
        self._box(num_points, extent, interval, 2)
        self._view(detail, gaussian)
        self._share("disturbance", disturbance)
        if not 2 / num_points <= thickness <= 0.1:
            raise InputError(
                f"MixingLayer expects a thickness from 2 / num_points = {2 / num_points:.3g} to 0.1; got {thickness}."
            )
        low, high = self._ends("reynolds", reynolds)
        delta = thickness * extent
        self.equation = VorticityFlow(self._vary(viscosity=(delta / high, delta / low))["viscosity"])
        self._steps_for(2.0)

    def whole(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        y, delta = self.grid.coordinates(torch.float64)[1], self.thickness * self.extent
        layers = sum(
            sign / torch.cosh((y - place * self.extent) / delta).square() / delta
            for sign, place in ((-1, 0.25), (1, 0.75))
        )
        assert isinstance(layers, Tensor)
        rough = smooth_field(self.grid, generator, 8)
        return (layers + self.disturbance * rough * layers.square().mean().sqrt())[None]


class IsotropicTurbulence(FilteredProblem):
    r"""Turbulence without a direction, left to itself: energy cascades to scales that frames do not show, and decays.

    .. math:: \partial_t u = P \left( -u \cdot \nabla u \right) + \nu \Delta u, \qquad \nabla \cdot u = 0

    Frames: velocity (m/s), or in the plane vorticity (1/s), that the frame's grid resolves, of a simulation on `detail` times as
    many points. Initial spectra are ``E(k) ~ k^4 exp(-2 (k / peak)^2)`` with velocities of rms 1 m/s an axis.

    Parameters
    ----------
    num_points : of frames along each axis, even. reynolds : 1 / viscosity, may be a range (low, high) over runs. At 60, ``detail``
        times 24 points resolve the flow in space.
    interval : time between frames. extent : side of the box. num_dims : 2 or 3. peak : wavenumber of the spectrum's peak, in
        periods of the box. detail, gaussian : as in `MixingLayer`.
    """

    def __init__(
        self,
        num_points: int = 24,
        reynolds: float | Sequence[float] = 60.0,
        interval: float = 0.05,
        extent: float = 2 * math.pi,
        num_dims: int = 3,
        peak: float = 3.0,
        detail: int = 2,
        gaussian: float = 0.0,
    ) -> None:
        self.num_points, self.reynolds, self.interval, self.extent = num_points, reynolds, interval, extent
        self.num_dims, self.peak = num_dims, peak
        self._box(num_points, extent, interval, num_dims)
        self._view(detail, gaussian)
        if num_dims == 1 or not 1 <= peak <= num_points / 6:
            raise InputError(
                f"IsotropicTurbulence expects num_dims 2 or 3 and a peak from 1 to num_points / 6; got {num_dims} and {peak}."
            )
        low, high = self._ends("reynolds", reynolds)
        nu = self._vary(viscosity=(1 / high, 1 / low))["viscosity"]
        self.equation = NavierStokes(nu) if num_dims == 3 else VorticityFlow(nu)
        self._steps_for(2.5 * num_dims)

    def _shaped(self, generator: torch.Generator) -> Float[Tensor, " *space"]:
        """White noise under the spectrum's envelope; waves beyond 2.5 peaks hold less than 1e-4 of the energy and are left out."""
        highest = min(2.5 * self.peak, (self.num_points - 1) // 2)
        u = smooth_field(self.grid, generator, highest)
        q = (
            (-laplacian(self.grid, torch.zeros((), dtype=torch.float64))).sqrt()
            * self.extent
            / (2 * math.pi)
            / self.peak
        )
        # E(k) counts all waves of a shell, whose number grows as k^(dims - 1).
        size = q ** ((5 - self.num_dims) / 2) * torch.exp(-q.square())
        axes = tuple(range(-self.num_dims, 0))
        return torch.fft.irfftn(torch.fft.rfftn(u, dim=axes) * size, s=self.grid.shape, dim=axes)

    def whole(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        d = Spectral(self.grid, torch.float64)
        if self.num_dims == 2:
            assert isinstance(self.equation, VorticityFlow)
            w = -d.laplace(self._shaped(generator)[None, None])
            # The envelope is that of velocity: a stream function has one power of k less.
            w = d.inverse(d.forward(w) * d.square.clamp(min=1e-30).rsqrt())
            return (w / self.equation.velocity(w, d).square().mean().sqrt())[0]
        v = NavierStokes.project(torch.stack([self._shaped(generator) for _ in range(3)])[None], d)
        return (v / v.square().mean().sqrt())[0]
