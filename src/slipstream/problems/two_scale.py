"""Steady conduction through a material whose every point is a cell with an inclusion: two scales, solved together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.equation import Equation, Parameter
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems.problem import Problem, Setting
from slipstream.solvers.cell import CellLaw
from slipstream.solvers.macro import Turned
from slipstream.solvers.two_scale import ConductionStepper
from slipstream.stepper import Stepper
from slipstream.trajectories import Parameters

SEMI_AXES = (0.12, 0.42)
LAW_INPUTS, LAW_OUTPUTS = "law_inputs", "law_outputs"
"""Where a training window holds samples of the law, among its parameters: (sample, input) and (sample, output)."""
GRADIENT = 4.0
"""Gradient that the default source drives: of a hundred runs the median reaches 3.6, nine in ten stay below 4.2, the largest has 4.7."""


class HomogenisedConduction(Equation):
    r"""Balance of heat with a flux that no formula gives: each point asks a periodic cell.

    .. math:: -\nabla \cdot q(\nabla u; a, b, \theta, \kappa) = f
    """

    latex = r"-\nabla \cdot q(\nabla u; a, b, \theta, \kappa) = f"

    def __init__(self) -> None:
        self.channels = (Channel("temperature", "K"),)
        self.parameters = {
            "source": Parameter("W/m^3"),
            "semi_a": Parameter("cell", low=0.0, high=0.5),
            "semi_b": Parameter("cell", low=0.0, high=0.5),
            "angle": Parameter("rad"),
            "log_kappa": Parameter(""),
        }


@dataclass(frozen=True)
class Cells:
    """How the cells under the Gauss points are solved: a scheme of `TwoScaleConduction`."""

    num_points: int
    tolerance: float = 0.1
    tangent_tolerance: float = 0.1

    @property
    def name(self) -> str:
        return f"cells of {self.num_points} x {self.num_points} pixels (tolerance {self.tolerance:g})"

    def law(self) -> CellLaw:
        """In the axes of the ellipse."""
        return CellLaw(self.num_points, self.tolerance, self.tangent_tolerance)


class TwoScaleConduction(Problem):
    r"""Conduction through a matrix with elliptical inclusions that stiffen with the gradient (FE^2).

    .. math:: -\nabla \cdot q(\nabla u; a, b, \theta, \kappa) = f, \qquad u = 0 \text{ on the boundary of the unit square}

    q is the mean flux through a periodic cell: conductivity 1 around a centred ellipse of :math:`\kappa \sqrt{1 + |g|^2}`, in the axes of
    the ellipse, which are turned by theta. Parameters are fields on the grid, constant in each of its cells: ``source``, ``semi_a`` and
    ``semi_b`` (of a unit cell), ``angle`` and ``log_kappa``. The frame is u at the centres of the cells.

    Cost: four Gauss points a mesh cell, each with a nonlinear problem of its own in each Newton step. A learnt law (`law_data`,
    `slipstream.steppers.Upscaled`) takes the place of these.

    Parameters
    ----------
    macro : cells of the mesh along x and y, equal ones. micro : pixels of the cells that samples of the law come from, along x and y,
        equal ones; the reference has half as many again, so that what such a law owes to its pixels counts as its error.
    contrast : kappa lies between 1 / contrast and contrast.
    source : mean of f.
    """

    equation = HomogenisedConduction()
    steady = True
    interval = 0.0
    fields = ("source", "semi_a", "semi_b", "angle", "log_kappa")
    features = ("semi_a", "semi_b", "angle", "log_kappa")

    def __init__(
        self,
        macro: Sequence[int] = (32, 32),
        micro: Sequence[int] = (32, 32),
        contrast: float = 10.0,
        source: float = 10.0,
    ) -> None:
        self.macro, self.micro = tuple(macro), tuple(micro)
        for name, pair in (("macro", self.macro), ("micro", self.micro)):
            if len(pair) != 2 or pair[0] != pair[1] or pair[0] < 4:
                raise InputError(f"TwoScaleConduction expects {name} as two equal numbers of at least 4; got {pair}.")
        if not contrast > 1 or not source > 0:
            raise InputError(f"TwoScaleConduction expects contrast > 1 and source > 0; got {contrast} and {source}.")
        self.contrast, self.source = float(contrast), float(source)
        self.grid = Grid.box(self.macro, 1.0, periodic=False)
        n = self.macro[0]
        self.trusted = Cells(3 * self.micro[0] // 2, 1e-2, 3e-2)
        self.reference_setting = Setting(n, 0, self.trusted)
        self.fast_setting = Setting(n, 0, Cells(12))

    def draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        waves = [_smooth(self.grid, generator) for _ in self.fields]
        low, high = SEMI_AXES
        share = [torch.sigmoid(1.5 * w) for w in waves]
        drawn = {
            "source": 2 * self.source * share[0],
            "semi_a": low + (high - low) * share[1],
            "semi_b": low + (high - low) * share[2],
            "angle": 0.5 * math.pi * waves[3],
            "log_kappa": math.log(self.contrast) * (2 * share[4] - 1),
        }
        return {k: v.float() for k, v in drawn.items()}

    def solver(self, setting: Setting | None = None, *, guard: bool = True) -> Stepper:
        s = setting or self.fast_setting
        if not isinstance(s.scheme, Cells):
            raise InputError(
                f"TwoScaleConduction is solved with `Cells` under its mesh; got the scheme {s.scheme.name}."
            )
        # As exact as the cells, and not more: the residual that Newton's method leaves is squared by each step.
        tolerance = 1e-5 if s.scheme.tolerance < 0.03 else 3e-3
        return ConductionStepper(
            self.grid, Turned(s.scheme.law()), self.features, "source", self.channels, self.points(s), tolerance
        )

    def ladder(self) -> list[Setting]:
        n = self.macro[0]
        meshes = sorted({max(4, round(n * f)) for f in (0.5, 0.75, 1.0)})
        loose = [Setting(m, 0, Cells(k)) for m in meshes for k in (8, 12, 16, 24)]
        return [*loose, *(Setting(n, 0, Cells(k, 0.03)) for k in (12, 16, 24))]

    def reference_error(
        self, frames: Float[Tensor, "run time channel *space"], parameters: Parameters, steps: int
    ) -> Float[Tensor, " step"]:
        """How far the reference's cells are from cells with half as many pixels again in each direction.

        Both on a mesh half as fine, which costs a quarter and shows the same: the error of the mesh is not in it, as the problem is
        posed on its own.
        """
        mesh, cells = max(4, self.macro[0] // 2), self.trusted.num_points
        pair = (Setting(mesh, 0, Cells(k, 3e-3, 3e-2)) for k in (cells, 3 * cells // 2))
        with torch.no_grad():
            u, v = (self.march(self.solver(k), frames.double(), parameters, 1) for k in pair)
        return ((u - v).flatten(2).norm(dim=-1) / v.flatten(2).norm(dim=-1).clamp(min=1e-30)).amax(0)

    def cell_law(self) -> CellLaw:
        """The law that `law_data` samples, in the axes of the ellipse: (gradient, (a, b, log kappa)) to flux and tangent."""
        return Cells(self.micro[0], 1e-2, 3e-2).law()

    def law_box(self) -> tuple[Float[Tensor, " input"], Float[Tensor, " input"]]:
        """Where a law for this problem has to hold: (G_x, G_y) in the axes of the ellipse, a, b and log kappa.

        Gradients reach to 1.5 times the expected ones: early Newton steps overshoot.
        """
        reach, k = 1.5 * GRADIENT * self.source / 10, math.log(self.contrast)
        low, high = SEMI_AXES
        return torch.tensor([-reach, -reach, low, low, -k]), torch.tensor([reach, reach, high, high, k])

    def law_data(
        self, samples: int, seed: int = 0, micro: int | None = None
    ) -> tuple[Float[Tensor, "sample input"], Float[Tensor, "sample 2"]]:
        """Samples of the law by the cell solver: (G_x, G_y, a, b, log kappa) in the axes of the ellipse, and the mean flux (float32).

        Parameters
        ----------
        micro : pixels along each side of a cell; the problem's where None. The samples fill `law_box`, corners included.
        """
        if samples < 1:
            raise InputError(f"law_data needs at least 1 sample; got {samples}.")
        generator = torch.Generator().manual_seed(seed)
        low, high = self.law_box()
        share = 2 * torch.rand(samples, len(low), generator=generator) - 1
        share[:, :2] *= share[:, :2].abs().sqrt()  # small gradients are commoner than large ones
        x = ((low + high) / 2 + share * (high - low) / 2).clamp(low, high)
        corners = torch.cartesian_prod(*torch.stack([low, high], dim=1))
        corners = corners[torch.randperm(len(corners), generator=generator)][:samples]
        x[: len(corners)] = corners
        law = CellLaw(micro or self.micro[0], 1e-3)
        return x, law(x[:, :2], x[:, 2:], None, tangents=False).flux


def _smooth(grid: Grid, generator: torch.Generator, count: int = 12, largest: float = 2.0) -> Float[Tensor, " *space"]:
    """A smooth random field of unit variance: waves of at most `largest` periods across the box (float64)."""
    k = 2 * math.pi * largest * (2 * torch.rand(count, 2, generator=generator, dtype=torch.float64) - 1)
    phase = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    x = grid.coordinates(torch.float64).flatten(1)
    return (math.sqrt(2 / count) * (k @ x + phase[:, None]).cos().sum(0)).reshape(grid.shape)
