"""Steady queries: a source that moves, a hole that moves, and a field that answers nonlinearly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.equation import Equation, Parameter
from slipstream.errors import InputError
from slipstream.grids import Axis, Grid
from slipstream.problems.problem import Problem, Setting
from slipstream.solvers.moving_source import NAMES, MovingSourceStepper
from slipstream.stepper import Stepper
from slipstream.trajectories import Parameters

REACH = 0.3
"""Source and hole keep so near to the centre, along each axis."""


class ReactiveConduction(Equation):
    r"""Steady heat with a conductivity that grows with temperature, a cubic loss, a Gaussian source and a round hole.

    .. math:: -\nabla\cdot(k(x)(1+u)\nabla u) + r u^3 = f(x)
    """

    latex = r"-\nabla\cdot(k(x)(1+u)\nabla u) + r\,u^3 = f(x)"

    def __init__(self) -> None:
        self.channels = (Channel("temperature"),)
        self.parameters = {
            "source_x": Parameter(""),
            "source_y": Parameter(""),
            "source_width": Parameter("", low=0.0),
            "source_strength": Parameter("", low=0.0),
            "hole_x": Parameter(""),
            "hole_y": Parameter(""),
            "hole_radius": Parameter("", low=0.0),
        }


@dataclass(frozen=True)
class Newton:
    """How `MovingSource` is solved: the form, where Newton's method starts, and when it stops.

    kirchhoff : unknown w = u + u^2/2 and Cholesky, or u itself and LU. nested : start from the mesh with half the cells, or from zero.
    """

    kirchhoff: bool = True
    nested: bool = False
    tolerance: float = 1e-2

    @property
    def name(self) -> str:
        form = "Kirchhoff's w, Cholesky" if self.kirchhoff else "u itself, LU"
        return f"Newton ({form}, {'nested' if self.nested else 'cold'} start, tolerance {self.tolerance:g})"


class MovingSource(Problem):
    r"""Many steady queries: where a source and a hole are decides the field.

    .. math:: -\nabla\cdot(k(x)(1+u)\nabla u) + r\,u^3 = f(x), \qquad u = 0 \text{ on the boundary of the unit square around 0}

    f is a Gaussian (place, width, strength), k is 1 and falls to `hole` in a disk (place, radius) whose rim is `edge` wide: seven numbers
    in all. Fields that follow moving things need many linear modes (a slow decay of POD), and polynomials of the seven numbers do badly.
    The frame is u at the nodes of the grid.

    The square has eight symmetries; `fold` turns a query so that the source lies in one eighth of it.

    Parameters
    ----------
    num_cells : of the grid, along each side; the reference has twice as many.
    hole : conductivity in the hole. edge : half width of its rim. reaction : r.
    """

    equation = ReactiveConduction()
    steady = True
    interval = 0.0
    varying: Mapping[str, tuple[float, float]] = {
        "source_x": (-REACH, REACH),
        "source_y": (-REACH, REACH),
        "source_width": (0.03, 0.06),
        "source_strength": (300.0, 1000.0),
        "hole_x": (-REACH, REACH),
        "hole_y": (-REACH, REACH),
        "hole_radius": (0.08, 0.2),
    }

    def __init__(self, num_cells: int = 32, hole: float = 0.05, edge: float = 0.02, reaction: float = 50.0) -> None:
        if num_cells < 8 or num_cells % 4:
            raise InputError(f"MovingSource expects num_cells as a multiple of 4 of at least 8; got {num_cells}.")
        if not 0 < hole <= 1 or not edge > 0 or not reaction >= 0:
            raise InputError(
                f"MovingSource expects 0 < hole <= 1, edge > 0 and reaction >= 0; got hole={hole}, edge={edge}, reaction={reaction}."
            )
        self.num_cells, self.hole, self.edge, self.reaction = num_cells, float(hole), float(edge), float(reaction)
        self.grid = Grid(tuple(Axis(n, num_cells + 1, -0.5, 1.0, periodic=False, centred=False) for n in "xy"))
        self.reference_setting = Setting(2 * num_cells, 0, Newton(nested=True, tolerance=1e-4))
        self.fast_setting = Setting(num_cells // 2, 0, Newton())

    def points(self, setting: Setting) -> tuple[int, ...]:
        """Cells of the mesh along each side."""
        return (setting.num_points, setting.num_points)

    def solver(self, setting: Setting | None = None, *, guard: bool = True) -> Stepper:
        return self.newton(setting or self.fast_setting)

    def newton(self, setting: Setting) -> MovingSourceStepper:
        """The classical solver, which can also polish what others say on its mesh."""
        s = setting.scheme
        if not isinstance(s, Newton):
            raise InputError(f"MovingSource is solved by `Newton`; got the scheme {s.name}.")
        return MovingSourceStepper(
            self.grid,
            self.hole,
            self.edge,
            self.reaction,
            self.channels,
            setting.num_points,
            s.kirchhoff,
            s.nested,
            s.tolerance,
        )

    def ladder(self) -> list[Setting]:
        """Meshes from 8 cells a side on, both forms, both starts, three tolerances (a loose one may do, and saves steps)."""
        n = self.num_cells
        meshes = sorted({max(6, n * f // 16) for f in (4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 20, 24, 32)})
        cold = [Setting(m, 0, Newton(k, tolerance=t)) for m in meshes for k in (True, False) for t in (1e-1, 1e-2)]
        nested = [Setting(m, 0, Newton(True, True, t)) for m in meshes if m >= n / 2 for t in (1e-1, 1e-2)]
        exact = [Setting(n, 0, Newton(tolerance=1e-3)), Setting(2 * n, 0, Newton(nested=True, tolerance=1e-3))]
        return [*cold, *nested, *exact]

    def reference_error(
        self, frames: Float[Tensor, "run time channel *space"], parameters: Parameters, steps: int
    ) -> Float[Tensor, " step"]:
        """How far the reference is from a mesh with twice its cells along each side: relative L2, the largest over runs.

        The error of an order-two method is 4/3 of that difference.
        """
        r = self.reference_setting
        with torch.no_grad():
            u, v = (
                self.march(self.solver(s), frames.double(), parameters, 1)
                for s in (r, Setting(2 * r.num_points, 0, r.scheme))
            )
        return 4 / 3 * ((u - v).flatten(2).norm(dim=-1) / v.flatten(2).norm(dim=-1).clamp(min=1e-30)).amax(0)

    def fold(self, z: Float[Tensor, "run 7"]) -> tuple[Float[Tensor, "run 7"], Int[Tensor, " run"]]:
        """Queries turned and mirrored so that 0 <= source_y <= source_x, and which of the eight ways each was.

        Parameters
        ----------
        z : in the order of `varying`; places may be scaled, about the centre and alike for both axes.
        """
        m = _mirrors(z)
        mirrored = (z[:, :2] < 0).to(torch.int64) @ m["bits"]
        z = z * m["signs"][mirrored]
        swapped = z[:, 1] > z[:, 0]
        return torch.where(swapped[:, None], z[:, m["order"]], z), mirrored + 4 * swapped

    def unfold(self, fields: Float[Tensor, "run point"], way: Int[Tensor, " run"]) -> Float[Tensor, "run point"]:
        """Fields of folded queries back in the place of the first ones (values at all nodes, flattened)."""
        return fields.gather(1, self._turns(fields.device)[0][way])

    def folded(self, fields: Float[Tensor, "run point"], way: Int[Tensor, " run"]) -> Float[Tensor, "run point"]:
        """Undo `unfold`."""
        return fields.gather(1, self._turns(fields.device)[1][way])

    def _turns(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """For each of the eight ways: whose value stands where, unfolding and folding."""
        if self._turned is None or self._turned[0].device != device:
            here = torch.arange(self.grid.size, device=device).reshape(self.grid.shape)
            back, forth = [], []
            for way in range(8):
                turned = here.flip([axis for axis in (0, 1) if way >> axis & 1])
                back.append((here.T if way & 4 else here).flip([axis for axis in (0, 1) if way >> axis & 1]).flatten())
                forth.append((turned.T if way & 4 else turned).flatten())
            self._turned = torch.stack(back), torch.stack(forth)
        return self._turned

    _turned: tuple[Tensor, Tensor] | None = None


_TABLES: dict[tuple[torch.dtype, torch.device], dict[str, Tensor]] = {}


def _mirrors(like: Tensor) -> dict[str, Tensor]:
    """Small constant tables of `MovingSource.fold`."""
    key = (like.dtype, like.device)
    if key not in _TABLES:
        signs = torch.ones(4, len(NAMES))
        for way in range(4):
            for axis in (0, 1):
                if way >> axis & 1:
                    signs[way, [axis, 4 + axis]] = -1
        _TABLES[key] = {
            "signs": signs.to(like),
            "order": torch.tensor([1, 0, 2, 3, 5, 4, 6], device=like.device),
            "bits": torch.tensor([1, 2], device=like.device),
        }
    return _TABLES[key]
