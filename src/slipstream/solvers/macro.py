"""Steady conduction with any law: bilinear finite elements and Newton's method, many runs at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError, ShapeError, UnstableStep


@dataclass(frozen=True)
class Response:
    """What a law answers at some points.

    Attributes
    ----------
    flux : (point, 2). tangent : its derivative by the gradient, (point, 2, 2); None where it was not asked for.
    memory : what the law would like to be given when it is next asked about the same points; opaque.
    fallbacks : at how many points it asked a trusted law in its place.
    """

    flux: Tensor
    tangent: Tensor | None
    memory: Any = None
    fallbacks: int = 0


@runtime_checkable
class Law(Protocol):
    """From gradients and what is known of each point to fluxes and consistent tangents."""

    def __call__(self, gradient: Tensor, features: Tensor, memory: Any = None) -> Response: ...


@dataclass(frozen=True)
class Solved:
    """A macroscopic solution.

    Attributes
    ----------
    u : nodal values (run, nodes x, nodes y). iterations : calls of the law. residuals : relative, one a call, the largest of all runs.
    fallbacks : summed over calls.
    """

    u: Tensor
    iterations: int
    residuals: tuple[float, ...]
    fallbacks: int


class Conduction:
    r"""Bilinear elements for :math:`-\nabla \cdot q(\nabla u; p(x)) = f` on a rectangle, `u` given on its boundary.

    Parameters
    ----------
    num_cells : elements along x and y. extent : of the rectangle.
    """

    def __init__(self, num_cells: Sequence[int], extent: Sequence[float] = (1.0, 1.0)) -> None:
        self.num_cells, self.extent = tuple(num_cells), tuple(float(e) for e in extent)
        if len(self.num_cells) != 2 or len(self.extent) != 2 or min(self.num_cells) < 2:
            raise InputError(f"Conduction expects two numbers of cells, at least 2 each; got {num_cells}.")
        nx, ny = self.num_cells
        hx, hy = self.extent[0] / nx, self.extent[1] / ny
        corner = np.arange((nx + 1) * (ny + 1)).reshape(nx + 1, ny + 1)
        nodes = np.stack([corner[:-1, :-1], corner[1:, :-1], corner[:-1, 1:], corner[1:, 1:]], axis=-1).reshape(-1, 4)
        s = (1 - 1 / math.sqrt(3)) / 2
        gauss = np.array([(x, y) for x in (s, 1 - s) for y in (s, 1 - s)])
        slopes = _slopes(gauss) / np.array([hx, hy])[:, None]
        self._nodes = torch.from_numpy(nodes)
        self._gauss = torch.from_numpy(gauss)
        self._slopes = torch.from_numpy(slopes)  # (Gauss point, direction, corner)
        self._shapes = torch.from_numpy(_shapes(gauss))
        self._volume = hx * hy / 4
        # Which entry of the inner matrix each entry of each element's matrix is added to.
        inner = np.full((nx + 1, ny + 1), -1)
        inner[1:-1, 1:-1] = np.arange((nx - 1) * (ny - 1)).reshape(nx - 1, ny - 1)
        self._inner = torch.from_numpy(np.flatnonzero(inner.ravel() >= 0))
        place = inner.ravel()[nodes]
        rows, columns = np.broadcast_arrays(place[:, :, None], place[:, None, :])
        kept = (rows >= 0) & (columns >= 0)
        count = len(self._inner)
        keys, self._target = np.unique(columns[kept] * count + rows[kept], return_inverse=True)
        self._kept = np.flatnonzero(kept.ravel())
        self._rows = (keys % count).astype(np.int32)
        self._starts = np.searchsorted(keys // count, np.arange(count + 1)).astype(np.int32)

    @property
    def num_points(self) -> int:
        """Gauss points: four an element, element by element."""
        return 4 * len(self._nodes)

    def points(self) -> Float[Tensor, "point 2"]:
        """Where the Gauss points lie (float64)."""
        nx, ny = self.num_cells
        h = torch.tensor([self.extent[0] / nx, self.extent[1] / ny], dtype=torch.float64)
        low = torch.cartesian_prod(torch.arange(nx), torch.arange(ny)).double()
        return ((low[:, None] + self._gauss) * h).reshape(-1, 2)

    def gradients(self, u: Float[Tensor, "run x y"]) -> Float[Tensor, "run point 2"]:
        """Gradient at every Gauss point."""
        corners = u.flatten(1)[:, self._nodes]
        return (corners @ self._slopes.to(u).reshape(8, 4).T).reshape(len(u), -1, 2)

    def weights(self, flux: Float[Tensor, "run point 2"]) -> Float[Tensor, "run node"]:
        """What a flux weighs against each inner node: the integral of flux . grad(shape function)."""
        local = flux.reshape(len(flux), -1, 8) @ (self._volume * self._slopes.to(flux).reshape(8, 4))
        return self._gathered(local)

    def load(self, source: Float[Tensor, "run point"]) -> Float[Tensor, "run node"]:
        """The integral of a source, given at the Gauss points, against each inner shape function."""
        local = source.reshape(len(source), -1, 4) @ (self._volume * self._shapes.to(source))
        return self._gathered(local)

    def _gathered(self, local: Tensor) -> Tensor:
        total = local.new_zeros(len(local), (self.num_cells[0] + 1) * (self.num_cells[1] + 1))
        total.index_add_(1, self._nodes.flatten(), local.flatten(1))
        return total[:, self._inner]

    def matrix(self, tangent: Float[Tensor, "point 2 2"]):
        """The derivative of `weights` by the inner nodal values of one run, as a sparse matrix (float64)."""
        from scipy.sparse import csc_matrix

        slopes = self._slopes
        product = torch.einsum("gia,gjb->gijab", slopes, slopes).reshape(16, 16) * self._volume
        local = tangent.detach().double().reshape(-1, 16) @ product
        values = np.bincount(self._target, local.numpy().ravel()[self._kept], len(self._rows))
        return csc_matrix((values, self._rows, self._starts), shape=(len(self._inner),) * 2)

    def solve(
        self,
        law: Law,
        features: Float[Tensor, "run point feature"],
        source: Float[Tensor, "run point"],
        start: Float[Tensor, "run x y"] | None = None,
        tolerance: float = 1e-6,
        max_iterations: int = 30,
    ) -> Solved:
        """Newton's method with the law's tangents; steps are halved until the residual falls.

        Sums are kept in float64; the law is asked in the dtype of `features`.

        Differentiable in `features` and `source` (by the implicit function theorem: one more solve with the last tangent) where the law is.

        Parameters
        ----------
        law : called with the points of all runs at once.
        features, source : at the Gauss points.
        start : nodal values that hold the boundary values and a first guess inside; 0 where None.
        tolerance : of the residual, relative to the larger of the load and what the boundary and first guess weigh.

        Raises
        ------
        UnstableStep : it did not converge; the message holds the residuals.
        """
        runs = len(features)
        if features.shape[1] != self.num_points or source.shape != features.shape[:2]:
            raise ShapeError(
                f"Conduction has {self.num_points} Gauss points; got features {tuple(features.shape)} and source {tuple(source.shape)}."
            )
        shape = (runs, self.num_cells[0] + 1, self.num_cells[1] + 1)
        u = torch.zeros(shape, dtype=torch.float64) if start is None else start.detach().double().clone()
        load = self.load(source.double())
        with torch.no_grad():
            fixed = features.detach().flatten(0, 1)
            step = torch.zeros_like(load)
            sizes: list[float] = []
            last, scale, memory, fallbacks = load.new_full((runs,), math.inf), None, None, 0
            for _ in range(max_iterations):
                response = law(self.gradients(u).flatten(0, 1).to(fixed), fixed, memory)
                memory, fallbacks = response.memory, fallbacks + response.fallbacks
                residual = load - self.weights(response.flux.double().unflatten(0, (runs, -1)))
                size = residual.norm(dim=1)
                scale = torch.maximum(size, load.norm(dim=1)).clamp(min=1e-30) if scale is None else scale
                sizes.append(float((size / scale).max()))
                # Rounding and the law's own tolerance may let a small residual stay where it is.
                worse = ~(size <= last) & (size > 10 * tolerance * scale)
                if bool(worse.any()):
                    step = torch.where(worse[:, None], 0.5 * step, 0.0)
                    self._move(u, -step)
                    last = torch.where(worse, last, size)
                    continue
                if bool((size <= tolerance * scale).all()):
                    break
                step = self._solved(response, residual)
                self._move(u, step)
                last = size
            else:
                raise UnstableStep(
                    f"Newton's method kept a relative residual of {sizes[-1]:.2g} > tolerance={tolerance:g} after {max_iterations} calls "
                    f"of the law (residuals {', '.join(f'{s:.1e}' for s in sizes[:8])} ...). Check the tangents, or use a larger tolerance."
                )
        if features.requires_grad or source.requires_grad:
            u = self._differentiable(law, u, features, load, memory)
        return Solved(u.to(source), len(sizes), tuple(sizes), fallbacks)

    def _differentiable(self, law: Law, u: Tensor, features: Tensor, load: Tensor, memory: Any) -> Tensor:
        """One more Newton step with its graph: its value is u up to the residual, its derivative is that of the solution."""
        response = law(self.gradients(u).flatten(0, 1).to(features), features.flatten(0, 1), memory)
        residual = load - self.weights(response.flux.double().unflatten(0, (len(u), -1)))
        matrices = [self.matrix(t) for t in _parts(response.tangent, len(u))]
        change = u.new_zeros(len(u), u[0].numel()).index_copy(1, self._inner, _Solve.apply(residual, matrices))
        return u + change.reshape(u.shape)

    def _solved(self, response: Response, residual: Tensor) -> Tensor:
        return _Solve.apply(residual, [self.matrix(t) for t in _parts(response.tangent, len(residual))])

    def _move(self, u: Tensor, step: Tensor) -> None:
        u.flatten(1).index_add_(1, self._inner, step)

    def values(self, u: Float[Tensor, "run x y"], points: Float[Tensor, "point 2"]) -> Float[Tensor, "run point"]:
        """The finite-element function at any points of the rectangle."""
        nx, ny = self.num_cells
        scaled = points.double() * torch.tensor([nx / self.extent[0], ny / self.extent[1]], dtype=torch.float64)
        low = torch.minimum(scaled.floor().clamp(min=0), torch.tensor([nx - 1.0, ny - 1.0], dtype=torch.float64))
        shapes = torch.from_numpy(_shapes((scaled - low).numpy())).to(u)
        cell = (low[:, 0] * ny + low[:, 1]).long()
        return (u.flatten(1)[:, self._nodes[cell]] * shapes).sum(-1)


class _Solve(torch.autograd.Function):
    """Sparse solves, one matrix a run, with gradients to the right-hand sides."""

    @staticmethod
    def forward(ctx, right: Tensor, matrices: list) -> Tensor:
        from scipy.sparse.linalg import splu

        ctx.factors = [splu(m, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}) for m in matrices]
        return _each(ctx.factors, right, "N")

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return _each(ctx.factors, gradient, "T"), None


def _each(factors: list, right: Tensor, trans: str) -> Tensor:
    wide = right.detach().double().numpy()
    found = [f.solve(r, trans) for f, r in zip(factors, wide, strict=True)]
    return torch.from_numpy(np.stack(found)).to(right)


def _parts(tangent: Tensor | None, runs: int) -> list[Tensor]:
    if tangent is None:
        raise InputError("Newton's method needs a law that gives tangents; this one gave none.")
    return list(tangent.detach().unflatten(0, (runs, -1)))


def _shapes(at: np.ndarray) -> np.ndarray:
    x, y = at[:, 0], at[:, 1]
    return np.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], axis=-1)


def _slopes(at: np.ndarray) -> np.ndarray:
    x, y = at[:, 0], at[:, 1]
    along_x = np.stack([y - 1, 1 - y, -y, y], axis=-1)
    along_y = np.stack([x - 1, -x, 1 - x, x], axis=-1)
    return np.stack([along_x, along_y], axis=1)


@dataclass(frozen=True)
class Turned:
    """A law known in the axes of its microstructure, used in axes turned by an angle: gradient in, flux and tangent out.

    Its features are those of the inner law with the angle (radians, from x to the first axis) at `position` among them.
    """

    law: Law
    position: int = 2

    def __call__(self, gradient: Tensor, features: Tensor, memory: Any = None) -> Response:
        angle = features[:, self.position]
        rest = torch.cat([features[:, : self.position], features[:, self.position + 1 :]], dim=1)
        c, s = angle.cos(), angle.sin()
        turn = torch.stack([torch.stack([c, s], -1), torch.stack([-s, c], -1)], dim=-2)
        inner = self.law((turn @ gradient[..., None])[..., 0], rest, memory)
        back = turn.mT
        tangent = None if inner.tangent is None else back.detach() @ inner.tangent @ turn.detach()
        return replace(inner, flux=(back @ inner.flux[..., None])[..., 0], tangent=tangent)
