"""Classical stepper for a moving source and a moving hole: seven numbers in, one field out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel, as_channels
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.solvers.reactive import ReactiveDiffusion
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters

NAMES = ("source_x", "source_y", "source_width", "source_strength", "hole_x", "hole_y", "hole_radius")
CACHE = 2**23
"""Bytes of matrices that are kept together."""
COARSEST, COARSE_TOLERANCE = 8, 0.1
"""Nested iteration begins on a mesh of about so many cells a side, and is this exact on all but the last mesh."""


class MovingSourceStepper(Stepper):
    """Bilinear elements and Newton's method for `slipstream.problems.MovingSource`; differentiable in all parameters.

    Between the nodes of its mesh the answer is a cubic spline, which costs two small products and is several times nearer the truth than
    the bilinear function: errors of coarse meshes are errors of their nodal values.

    Parameters
    ----------
    grid : a square with points on both ends of each axis.
    hole : conductivity in the hole (1 outside). edge : half width of its rim. reaction : factor of u^3.
    channels : of the frame, one.
    num_cells : of the mesh along each side; those of the grid where None.
    kirchhoff : the form, see `ReactiveDiffusion`.
    nested : the start comes from the mesh with half the cells (solved the same way) and not from zero.
    tolerance : of Newton's method, relative to the load.
    """

    history = 0
    interval = 0.0
    grid: Grid
    channels: tuple[Channel, ...]

    def __init__(
        self,
        grid: Grid,
        hole: float = 0.05,
        edge: float = 0.02,
        reaction: float = 50.0,
        channels: Sequence[Channel | str] = ("u",),
        num_cells: int | None = None,
        kirchhoff: bool = True,
        nested: bool = False,
        tolerance: float = 1e-2,
    ) -> None:
        super().__init__()
        axes = grid.axes
        if len(axes) != 2 or any(a.periodic or a.centred for a in axes) or len({(a.start, a.extent) for a in axes}) > 1:
            raise InputError("MovingSourceStepper expects a square with points on both ends of its two axes.")
        self.grid, self.hole, self.edge, self.reaction = grid, hole, edge, reaction
        self.channels, self.num_cells = as_channels(channels), num_cells
        self.kirchhoff, self.nested, self.tolerance = kirchhoff, nested, tolerance
        self.mesh = ReactiveDiffusion(
            num_cells or grid.shape[0] - 1, reaction, kirchhoff, axes[0].start, axes[0].extent
        )
        self._points = self.mesh.points()
        self._onto = [_carry(self.mesh.num_cells, n - 1) for n in grid.shape]
        half = self.mesh.num_cells // 2
        # A plain tuple: the coarser meshes belong to this stepper and are not saved with it.
        self._coarser: tuple[MovingSourceStepper, ...] = ()
        if nested and half >= COARSEST // 2 and self.mesh.num_cells > COARSEST:
            coarse = MovingSourceStepper(
                grid, hole, edge, reaction, channels, half, kirchhoff, True, max(tolerance, COARSE_TOLERANCE)
            )
            self._coarser = (coarse,)
            self._up = _carry(half, self.mesh.num_cells)
        self._casts: dict[torch.dtype, dict[str, Tensor]] = {}

    def material(self, p: Float[Tensor, "run 7"]) -> tuple[Float[Tensor, "run point"], Float[Tensor, "run point"]]:
        """Conductivity and source at the Gauss points, for parameters in the order of `NAMES`."""
        x, y = self._cast(p)["points"]
        sx, sy, width, strength, hx, hy, radius = p.T[:, :, None]
        source = strength * torch.exp(((x - sx).square() + (y - sy).square()) * (-0.5 / width.square()))
        away = ((x - hx).square() + (y - hy).square() + 1e-12).sqrt()
        return 1 - (1 - self.hole) * torch.sigmoid((radius - away) / self.edge), source

    def solved(self, p: Float[Tensor, "run 7"]) -> tuple[Float[Tensor, "run x y"], int]:
        """u at all nodes of the mesh, and how many Newton steps were taken on it.

        Runs go together in pieces whose matrices a core's cache keeps.
        """
        if len(p) > (most := max(1, CACHE // self.mesh.num_bytes)):
            pieces = [self.solved(part) for part in p.split(most)]
            return torch.cat([u for u, _ in pieces]), max(steps for _, steps in pieces)
        k, source = self.material(p)
        start = None
        if self._coarser:
            with torch.no_grad():
                up = self._cast(p)["up"]
                start = (up @ self._coarser[0].solved(p.detach())[0] @ up.mT)[:, 1:-1, 1:-1].flatten(1)
        answer = self.mesh.solve(k, source, start, self.tolerance)
        return self._whole(answer.u), answer.iterations

    def polish(
        self, frames: Float[Tensor, "run channel x y"], p: Float[Tensor, "run 7"]
    ) -> tuple[Float[Tensor, "run channel x y"], Float[Tensor, " run"], Float[Tensor, " run"]]:
        """One Newton step on frames of a grid whose cells are the mesh's, and the relative residual before and after it."""
        if self.mesh.num_cells != self.grid.shape[0] - 1:
            raise InputError("A frame is polished on its own grid: num_cells must be the grid's.")
        k, source = self.material(p)
        load = self.mesh.load(source)
        w = self.mesh.unknown(frames[:, 0, 1:-1, 1:-1].flatten(1))
        better = self.mesh.newton_step(w, k, load)
        size = load.norm(dim=1)
        before, after = (self.mesh.residual(v, k, load).norm(dim=1) / size for v in (w, better))
        return self._whole(self.mesh.value(better))[:, None], before, after

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        u, steps = self.solved(stacked(parameters, type(self).__name__))
        across, along = self._cast(u)["across"], self._cast(u)["along"]
        frame = u if across is None else across @ u @ along.mT
        return replace(state, stats={"newton_steps": torch.tensor(steps)}), frame[:, None, None]

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space2"]:
        return self.advance(State(past), parameters)[1]

    def check(self, frames: Tensor) -> None:
        """Steady: it looks at parameters alone."""

    def _whole(self, u: Tensor) -> Tensor:
        m = self.mesh.num_cells - 1
        return torch.nn.functional.pad(u.reshape(-1, m, m), (1, 1, 1, 1))

    def _cast(self, like: Tensor) -> dict:
        if like.dtype not in self._casts:
            same = self.mesh.num_cells == self.grid.shape[0] - 1 == self.grid.shape[1] - 1
            made: dict = {"points": self._points.to(like.dtype).T.contiguous()}
            made["across"], made["along"] = (None, None) if same else (m.to(like.dtype) for m in self._onto)
            made["up"] = self._up.to(like.dtype) if self._coarser else None
            self._casts[like.dtype] = made
        return self._casts[like.dtype]


def stacked(parameters: Parameters, who: str, names: Sequence[str] = NAMES) -> Float[Tensor, "run name"]:
    """Scalar parameters as columns, in the order of the names."""
    try:
        return torch.stack([parameters[n] for n in names], dim=1)
    except KeyError as missing:
        raise InputError(
            f"{who} needs the parameter {missing}; the parameters given are {sorted(parameters)}."
        ) from None


def _carry(cells: int, onto: int) -> Float[Tensor, "target source"]:
    """Nodal values on one mesh of a segment to those on another: cubic splines; exact where nodes coincide."""
    from scipy.interpolate import CubicSpline

    spline = CubicSpline(np.linspace(0, 1, cells + 1), np.eye(cells + 1))
    return torch.from_numpy(spline(np.linspace(0, 1, onto + 1)))
