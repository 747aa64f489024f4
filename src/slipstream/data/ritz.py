"""Right-hand sides for teaching a linear solver: mixtures of Ritz vectors, the slow ones stressed."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.data.source import Source, check_layout
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid
from slipstream.objectives.directions import ENERGY, MEMBER, SYSTEM
from slipstream.solvers.linear.dcdm import conditions_of, coupled
from slipstream.solvers.linear.lanczos import ritz
from slipstream.solvers.linear.maps import as_map
from slipstream.solvers.linear.stencil import Stencil
from slipstream.trajectories import Window

NULL = 1e-8
"""Ritz values below this share of the largest belong to the null space."""


class RitzVectors(Source):
    r"""Unit vectors b = V c with V the Ritz vectors of a symmetric matrix and c normal, `stress` times as large for the small values.

    White noise holds next to nothing of the smooth vectors on which a linear solver spends its iterations; a mixture that stresses the
    lower part of the spectrum does. The vectors come from the matrix, so they know its walls and obstacles. They are computed when the
    first window is asked for, in double precision, and their cost is part of the training's.

    A window has one frame of one channel, ``frames[:, 0, 0]`` the right-hand sides. Its parameters, all (batch,), are ``member``, which
    of several A they are of; ``system``, to which system of a batch each belongs; and ``energy``, :math:`b \cdot A^{-1} b` as the
    Ritz values give it at no cost: exact where the vectors are those of all eigenvalues, else a little too small (Gauss quadrature).

    Parameters
    ----------
    A : symmetric positive (semi-)definite: a `Stencil`, also a batch of them, or a matrix with the points of `grid`. Or several of
        those on different grids, of which every window takes one at random.
    grid : of a matrix, which does not tell; None asks A.
    batch : right-hand sides a window.
    vectors : Lanczos steps m, and so Ritz vectors of each system, as far as there are so many.
    low : share of the Ritz values, from below, that are stressed.
    stress : how much; 1 stresses nothing.
    seed : of the vectors that Lanczos starts from.
    dtype : of the windows.

    Raises
    ------
    InputError : numbers out of range, a matrix without a grid, an A that is not symmetric. ShapeError : A does not fit the grid.

    Source: Kaneda et al., ICML 2023 (arXiv:2205.10763), who take m = 10000, low = 0.55 and stress = 9.
    """

    def __init__(
        self,
        A: Any,
        grid: Grid | None = None,
        batch: int = 16,
        vectors: int = 600,
        low: float = 0.55,
        stress: float = 9.0,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if batch < 1 or vectors < 1 or not (0 <= low <= 1 and stress > 0):
            raise InputError(
                f"RitzVectors needs batch and vectors >= 1, stress > 0 and low in [0, 1]; got batch={batch}, vectors={vectors}, "
                f"stress={stress}, low={low}."
            )
        self.A, self.grid, self.batch, self.vectors, self.low, self.stress = A, grid, batch, vectors, low, stress
        self.seed, self.dtype = seed, dtype
        self.members = list(A) if isinstance(A, (list, tuple)) else [A]
        self.grids = [self._grid_of(member) for member in self.members]
        self._known: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def _grid_of(self, A: Any) -> Grid:
        grid = self.grid or getattr(A, "grid", None)
        if grid is None:
            raise InputError(
                f"A {type(A).__name__} does not say on which grid its unknowns lie; give RitzVectors grid=."
            )
        space = getattr(A, "space", None)
        if (tuple(space) != grid.shape) if space is not None else (A.shape[0] != grid.size):
            raise ShapeError(f"A acts on {space or A.shape[0]} unknowns, the grid has {grid.shape}.")
        return grid

    def basis(self, member: int = 0) -> tuple[Float[Tensor, "system vectors n"], Float[Tensor, "system vectors"]]:
        """Orthonormal Ritz vectors as rows, and their values, ascending. Those of the null space are zero rows."""
        return self._ready(member)[:2]

    def next(self, generator: torch.Generator) -> Window:
        member = 0 if len(self.members) == 1 else int(torch.randint(len(self.members), (), generator=generator))
        vectors, values, sizes = self._ready(member)
        grid = self.grids[member]
        which = torch.randint(vectors.shape[0], (self.batch,), generator=generator)
        c = sizes[which] * torch.randn(self.batch, vectors.shape[1], generator=generator, dtype=torch.float64)
        c = c / torch.linalg.vector_norm(c, dim=1, keepdim=True)
        energy = (c.square() / torch.where(sizes > 0, values, 1)[which]).sum(1)
        b = vectors.new_empty(self.batch, grid.size)
        for i in which.unique():
            b[which == i] = c[which == i].to(self.dtype) @ vectors[i]
        parameters = {MEMBER: torch.full_like(which, member), SYSTEM: which, ENERGY: energy.to(self.dtype)}
        return Window(b.reshape(self.batch, 1, 1, *grid.shape), grid, 0.0, parameters)

    def _ready(self, member: int) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz vectors in the precision of the windows; their values, and the size of their coefficients (0: null space) in double."""
        if member not in self._known:
            with torch.no_grad():
                self._known[member] = self._compute(self.members[member], self.grids[member])
        return self._known[member]

    def _compute(self, A: Any, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
        systems = A.batch if isinstance(A, Stencil) else 1
        start = torch.randn(
            systems, *grid.shape, generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64
        )
        if isinstance(A, Stencil):  # cells that couple with nothing are no part of the problem
            start = start * coupled(conditions_of(A))
        product = as_map(A, start if hasattr(A, "space") else start.flatten(1))
        values, vectors = ritz(product, product(start.flatten(1)), min(self.vectors, grid.size))
        kept = values > NULL * values.amax(1, keepdim=True)
        rank = kept.cumsum(1) - 1
        sizes = torch.where(rank < self.low * kept.sum(1, keepdim=True), self.stress, 1.0) * kept
        return (vectors * kept[..., None]).to(self.dtype), values, sizes

    def state_dict(self) -> dict[str, Any]:
        return {"layout": self._layout()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_layout("RitzVectors", state, self._layout())

    def _layout(self) -> dict[str, Any]:
        points = [list(grid.shape) for grid in self.grids]
        systems = [A.batch if isinstance(A, Stencil) else 1 for A in self.members]
        names = ("batch", "vectors", "low", "stress", "seed")
        return {name: getattr(self, name) for name in names} | {
            "points": points,
            "systems": systems,
            "dtype": str(self.dtype),
        }
