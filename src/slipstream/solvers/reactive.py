"""Steady diffusion with a conductivity that grows with the solution and a cubic sink: bilinear elements, Newton, banded factors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError, ShapeError, UnstableStep
from slipstream.solvers.macro import _shapes, _slopes


@dataclass(frozen=True)
class Answer:
    """Solutions of some runs.

    Attributes
    ----------
    u : at the inner nodes, (run, node). iterations : Newton steps. residuals : relative, before each step and at the end, the largest
        of all runs.
    """

    u: Tensor
    iterations: int
    residuals: tuple[float, ...]


class ReactiveDiffusion:
    r"""Bilinear elements for :math:`-\nabla\cdot(k(x)\,(1+u)\nabla u) + r\,u^3 = f` on a square, u = 0 on its boundary.

    k and f are given at the Gauss points (2 x 2 a cell), the sink is lumped at the nodes. With ``kirchhoff`` the unknown is
    :math:`w = u + u^2/2`, for which :math:`(1+u)\nabla u = \nabla w`: the stiffness no longer depends on the solution, Newton's matrices
    are symmetric and positive (banded Cholesky in place of banded LU), and for f >= 0 Newton's steps converge from any start. It needs
    u > -1. Both forms are of second order, and are not the same discretisation.

    Parameters
    ----------
    num_cells : along each side. reaction : r. start, extent : the square is [start, start + extent]^2.

    References
    ----------
    Kirchhoff, Vorlesungen ueber die Theorie der Waerme (1894).
    """

    def __init__(
        self,
        num_cells: int,
        reaction: float = 50.0,
        kirchhoff: bool = True,
        start: float = 0.0,
        extent: float = 1.0,
    ) -> None:
        if num_cells < 2 or not extent > 0 or not reaction >= 0:
            raise InputError(
                f"ReactiveDiffusion expects num_cells >= 2, extent > 0 and reaction >= 0; got {num_cells}, {extent}, {reaction}."
            )
        self.num_cells, self.reaction, self.kirchhoff = num_cells, float(reaction), kirchhoff
        self.start, self.extent = float(start), float(extent)
        n, h = num_cells, extent / num_cells
        corner = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
        nodes = np.stack([corner[:-1, :-1], corner[1:, :-1], corner[:-1, 1:], corner[1:, 1:]], axis=-1).reshape(-1, 4)
        s = (1 - 1 / math.sqrt(3)) / 2
        gauss = np.array([(x, y) for x in (s, 1 - s) for y in (s, 1 - s)])
        self._gauss = torch.from_numpy(gauss)
        self._cell_volume = h * h
        # Corners on the boundary hold zero: they are gathered from one more place after the inner nodes, and scattered there too.
        self.num_inner = (n - 1) ** 2
        inner = np.full((n + 1, n + 1), self.num_inner)
        inner[1:-1, 1:-1] = np.arange(self.num_inner).reshape(n - 1, n - 1)
        place = inner.ravel()[nodes]
        rows, columns = np.broadcast_arrays(place[:, :, None], place[:, None, :])
        kept = (rows < self.num_inner) & (columns < self.num_inner)
        if kirchhoff:
            kept &= rows >= columns
        self.band = n
        self._height = n + 1 if kirchhoff else 3 * n + 1
        self._diagonal = 0 if kirchhoff else 2 * n
        self._place = torch.from_numpy(place.ravel())
        self._kept = torch.from_numpy(np.flatnonzero(kept.ravel()))
        self._target = torch.from_numpy((columns * self._height + self._diagonal + rows - columns)[kept])
        shapes, slopes = _shapes(gauss), _slopes(gauss) / h
        stiffness = np.einsum("gda,gdb->gab", slopes, slopes).reshape(4, 16)
        # k (w) grad w . grad phi_a differentiated by the k in it: the slope of w along d times phi_b times the slope of phi_a.
        bent = np.einsum("gda,gb->gdab", slopes, shapes).reshape(8, 16)
        volume = self._cell_volume / 4
        self._parts: dict[str, Tensor] = {
            "stiffness": torch.from_numpy(volume * stiffness),
            "bent": torch.from_numpy(volume * bent),
            "slopes": torch.from_numpy(slopes.reshape(8, 4).T.copy()),
            "weights": torch.from_numpy(volume * slopes.reshape(8, 4)),
            "shapes": torch.from_numpy(shapes.T.copy()),
            "load": torch.from_numpy(volume * shapes),
        }
        self._cast: dict[torch.dtype, dict[str, Tensor]] = {}

    @property
    def num_points(self) -> int:
        """Gauss points: four a cell, cell by cell."""
        return 4 * self.num_cells**2

    @property
    def num_bytes(self) -> int:
        """Of one run's matrix in float64."""
        return 8 * self.num_inner * self._height

    def points(self) -> Float[Tensor, "point 2"]:
        """Where the Gauss points lie (float64)."""
        n, h = self.num_cells, self.extent / self.num_cells
        low = torch.cartesian_prod(torch.arange(n), torch.arange(n)).double()
        return self.start + ((low[:, None] + self._gauss) * h).reshape(-1, 2)

    def load(self, source: Float[Tensor, "run point"]) -> Float[Tensor, "run node"]:
        """The integral of a source against each inner shape function."""
        local = source.reshape(len(source), -1, 4) @ self._matrices(source)["load"]
        return self._gathered(local)

    def residual(
        self, w: Float[Tensor, "run node"], k: Float[Tensor, "run point"], load: Float[Tensor, "run node"]
    ) -> Float[Tensor, "run node"]:
        """What the balance at each inner node leaves over; differentiable in everything. `w` is the form's own unknown."""
        m = self._matrices(w)
        corners = self._corners(w)
        k = k.reshape(len(k), -1, 4)
        if not self.kirchhoff:
            k = k * (1 + corners @ m["shapes"])
        slopes = (corners @ m["slopes"]).unflatten(-1, (4, 2))
        flux = (k[..., None] * slopes).flatten(-2)
        return load - self._gathered(flux @ m["weights"]) - self._sink(w)[0]

    def matrices(self, w: Float[Tensor, "run node"], k: Float[Tensor, "run point"]) -> Float[Tensor, "run node height"]:
        """Minus the derivative of `residual` by w, in LAPACK's band storage (one column a row here)."""
        return self._with_sink(self._stiffness(w, k), self._sink(w)[1])

    def solve(
        self,
        k: Float[Tensor, "run point"],
        source: Float[Tensor, "run point"],
        start: Float[Tensor, "run node"] | None = None,
        tolerance: float = 1e-8,
        max_iterations: int = 40,
    ) -> Answer:
        """Newton's method on all runs at once, in the dtype of k, until every residual is below `tolerance` times its load.

        Differentiable in k and source (implicit function theorem: one more solve with the last matrix).

        Parameters
        ----------
        start : u at the inner nodes; where None, 0.

        Raises
        ------
        UnstableStep : it did not converge.
        """
        if k.ndim != 2 or k.shape[1] != self.num_points or source.shape != k.shape:
            raise ShapeError(
                f"ReactiveDiffusion has {self.num_points} Gauss points; got k {tuple(k.shape)} and source {tuple(source.shape)}."
            )
        with torch.no_grad():
            load = self.load(source)
            w = torch.zeros_like(load) if start is None else self._unknown(start.detach().to(load))
            scale = load.norm(dim=1).clamp(min=1e-30)
            last: Tensor | None = None
            stiffness = self._stiffness(w, k) if self.kirchhoff else None
            sizes: list[float] = []
            step = torch.zeros_like(w)
            steps = 0
            for _ in range(max_iterations):
                residual = self.residual(w, k, load)
                size = residual.norm(dim=1) / scale
                sizes.append(float(size.max()))
                if sizes[-1] <= tolerance:
                    break
                if not self.kirchhoff:
                    # Without the transform steps may overshoot: halve those that made the residual worse (or infinite).
                    worse = ~(size <= last) & (size > 10 * tolerance) if last is not None else size > math.inf
                    if bool(worse.any()):
                        step = torch.where(worse[:, None], 0.5 * step, 0.0)
                        w = w - step
                        continue
                    last = size
                matrix = self._stiffness(w, k) if stiffness is None else stiffness.clone()
                step = self._solved(self._with_sink(matrix, self._sink(w)[1]), residual)
                steps += 1
                w = w + step
            else:
                raise UnstableStep(
                    f"Newton's method kept a relative residual of {sizes[-1]:.2g} > tolerance={tolerance:g} after {max_iterations} rounds "
                    f"(residuals {', '.join(f'{s:.1e}' for s in sizes[:8])} ...). Use a larger tolerance, float64 or a better start."
                )
        if k.requires_grad or source.requires_grad:
            w = self.newton_step(w, k, self.load(source))
        return Answer(self.value(w), steps, tuple(sizes))

    def newton_step(
        self, w: Float[Tensor, "run node"], k: Float[Tensor, "run point"], load: Float[Tensor, "run node"]
    ) -> Float[Tensor, "run node"]:
        """One step from the form's own unknown. Gradients reach k and load through the residual, as if w were the solution."""
        with torch.no_grad():
            matrices = self.matrices(w.detach(), k.detach())
        return w + _Solve.apply(self.residual(w.detach(), k, load), matrices, self)

    def value(self, w: Float[Tensor, "run node"]) -> Float[Tensor, "run node"]:
        """u of the form's own unknown."""
        return (1 + 2 * w).clamp(min=1e-4).sqrt() - 1 if self.kirchhoff else w

    def unknown(self, u: Float[Tensor, "run node"]) -> Float[Tensor, "run node"]:
        """The form's own unknown of u."""
        return self._unknown(u)

    def _unknown(self, u: Tensor) -> Tensor:
        return u + 0.5 * u * u if self.kirchhoff else u

    def _sink(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The lumped sink and its derivative by the unknown."""
        u = self.value(w)
        square = (self.reaction * self._cell_volume) * u * u
        slope = 3 * square
        return square * u, slope / (1 + u) if self.kirchhoff else slope

    def _corners(self, w: Tensor) -> Tensor:
        """(run, cell, corner)."""
        return torch.nn.functional.pad(w, (0, 1)).index_select(1, self._place).unflatten(1, (-1, 4))

    def _gathered(self, local: Tensor) -> Tensor:
        """The sum over the cells around each inner node of what each corner holds."""
        total = local.new_zeros(len(local), self.num_inner + 1)
        return total.scatter_add(1, self._place.expand(len(local), -1), local.flatten(1))[:, :-1]

    def _stiffness(self, w: Tensor, k: Tensor) -> Tensor:
        m = self._matrices(k)
        k = k.reshape(len(k), -1, 4)
        if self.kirchhoff:
            local = k @ m["stiffness"]
        else:
            corners = self._corners(w)
            slopes = (corners @ m["slopes"]).unflatten(-1, (4, 2))
            local = (k * (1 + corners @ m["shapes"])) @ m["stiffness"] + (k[..., None] * slopes).flatten(-2) @ m["bent"]
        band = local.new_zeros(len(k), self.num_inner * self._height)
        band.scatter_add_(1, self._target.expand(len(k), -1), local.flatten(1).index_select(1, self._kept))
        return band.unflatten(1, (self.num_inner, self._height))

    def _with_sink(self, band: Tensor, slope: Tensor) -> Tensor:
        band[:, :, self._diagonal] += slope
        return band

    def _solved(self, matrices: Tensor, right: Tensor, transposed: bool = False) -> Tensor:
        """One LAPACK call a run: banded Cholesky or banded LU. There is no batched form of either."""
        from scipy.linalg.lapack import get_lapack_funcs

        bands, rights = matrices.numpy(), right.detach().numpy()
        found = np.empty_like(rights)
        if self.kirchhoff:
            (pbsv,) = get_lapack_funcs(("pbsv",), (bands, rights))
            for i in range(len(bands)):
                _, found[i], info = pbsv(bands[i].T, rights[i], lower=1)
                _check(info)
        else:
            gbtrf, gbtrs = get_lapack_funcs(("gbtrf", "gbtrs"), (bands, rights))
            for i in range(len(bands)):
                factors, pivots, info = gbtrf(bands[i].T, self.band, self.band)
                _check(info)
                found[i], info = gbtrs(factors, self.band, self.band, rights[i], pivots, trans=int(transposed))
        return torch.from_numpy(found)

    def _matrices(self, like: Tensor) -> dict[str, Tensor]:
        if like.dtype not in self._cast:
            self._cast[like.dtype] = {k: v.to(like.dtype) for k, v in self._parts.items()}
        return self._cast[like.dtype]


class _Solve(torch.autograd.Function):
    """Banded solves with gradients to the right-hand sides."""

    @staticmethod
    def forward(ctx, right: Tensor, matrices: Tensor, owner: ReactiveDiffusion) -> Tensor:
        ctx.matrices, ctx.owner = matrices, owner
        return owner._solved(matrices, right)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.owner._solved(ctx.matrices, gradient.contiguous(), transposed=True), None, None


def _check(info: int) -> None:
    if info != 0:
        raise UnstableStep(
            f"A matrix of Newton's method could not be factorised (LAPACK info {info}): k must be positive and u above -1."
        )
