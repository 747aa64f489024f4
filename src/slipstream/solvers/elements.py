"""Linear finite elements on meshes in torch: Darcy flow, Helmholtz waves, elasticity; batched, and differentiable in everything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from slipstream.errors import InputError, ShapeError, UnstableStep
from slipstream.meshes import Mesh
from slipstream.trajectories import Parameters


@runtime_checkable
class Form(Protocol):
    r"""A symmetric weak form of second order: :math:`\int \sigma(\nabla u) : \nabla v + \rho(u) \cdot v - f \cdot v`.

    `coefficients` names the parameters that it needs, one value a cell: (batch, cell).
    """

    @property
    def coefficients(self) -> tuple[str, ...]: ...

    def channels(self, num_dims: int) -> int: ...

    def stress(self, gradient: Tensor, p: Parameters) -> Tensor:
        """Linear in the gradient (batch, channel, cell, place, dim); coefficients come as (batch, 1, cell, 1, 1)."""
        ...

    def reaction(self, u: Tensor, p: Parameters) -> Tensor | None:
        """Linear in u (batch, channel, cell, place); coefficients come as (batch, 1, cell, 1). None where there is none."""
        ...


@dataclass(frozen=True)
class Darcy:
    r"""Pressure in a porous medium: :math:`-\nabla \cdot (k \nabla u) = f`."""

    coefficients: tuple[str, ...] = ("conductivity",)

    def channels(self, num_dims: int) -> int:
        return 1

    def stress(self, gradient: Tensor, p: Parameters) -> Tensor:
        return p["conductivity"] * gradient

    def reaction(self, u: Tensor, p: Parameters) -> Tensor | None:
        return None


@dataclass(frozen=True)
class Helmholtz:
    r"""Standing waves: :math:`-\Delta u - k^2 u = f`."""

    coefficients: tuple[str, ...] = ("wavenumber",)

    def channels(self, num_dims: int) -> int:
        return 1

    def stress(self, gradient: Tensor, p: Parameters) -> Tensor:
        return gradient

    def reaction(self, u: Tensor, p: Parameters) -> Tensor | None:
        return -p["wavenumber"].square() * u


@dataclass(frozen=True)
class Elasticity:
    r"""Displacement of a linear solid, in plane strain in 2D.

    .. math:: -\nabla \cdot (\lambda\,\mathrm{tr}(\varepsilon)\,I + 2\mu\varepsilon) = f
    """

    coefficients: tuple[str, ...] = ("lame_lambda", "lame_mu")

    def channels(self, num_dims: int) -> int:
        return num_dims

    def stress(self, gradient: Tensor, p: Parameters) -> Tensor:
        strain = 0.5 * (gradient + gradient.movedim(1, -1).movedim(-2, 1))
        trace = gradient.diagonal(dim1=1, dim2=-1).sum(-1)[:, None, ..., None]
        eye = torch.eye(gradient.shape[1], dtype=gradient.dtype, device=gradient.device)
        unit = eye.reshape(1, len(eye), 1, 1, len(eye))
        return 2 * p["lame_mu"] * strain + p["lame_lambda"] * trace * unit

    def reaction(self, u: Tensor, p: Parameters) -> Tensor | None:
        return None


class Elements:
    """Linear (triangles, tetrahedra) or bilinear (quadrilaterals) elements for a form on a mesh.

    Fields have layout (batch, channel, point), coefficients (batch, cell); all operations are differentiable in both and run over the
    whole batch at once. `residual` and `energy` are label-free objectives; `matrix` is what `residual` multiplies with.

    Parameters
    ----------
    mesh : where. form : what: `Darcy`, `Helmholtz`, `Elasticity`.
    fixed : names of boundaries where u is given (all of the boundary where None); the rest has no flux, no traction.

    Notes
    -----
    Quadrature is exact for the products that occur where cells are straight: degree 2 on simplices, 2 x 2 Gauss points on quadrilaterals.
    """

    def __init__(self, mesh: Mesh, form: Form, fixed: tuple[str, ...] | None = None) -> None:
        self.mesh, self.form, self.fixed = mesh, form, fixed
        self.channels = form.channels(mesh.num_dims)
        shapes, slopes, weights = _quadrature(mesh.kind)
        corners = mesh.points[mesh.cells]  # (cell, corner, dim)
        map_ = torch.einsum("qra,cad->cqdr", slopes, corners)
        self._weights = weights * torch.linalg.det(map_)  # (cell, place)
        # Slopes in space: those on the reference cell times the inverse of the map.
        self._slopes = torch.einsum("qra,cqrd->cqda", slopes, torch.linalg.inv(map_))
        self._shapes = shapes  # (place, corner)
        held = torch.zeros(mesh.size, dtype=torch.bool)
        if fixed is None or fixed:
            held[mesh.boundary(*(fixed or ()))] = True
        self.free: Bool[Tensor, " point"] = ~held
        self._casts: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor, Tensor, Tensor]] = {}

    def values(self, u: Float[Tensor, "batch channel point"]) -> Float[Tensor, "batch channel cell place"]:
        """u at the quadrature points."""
        shapes, _, _, cells = self._cast(u)
        return u[..., cells] @ shapes.mT

    def gradients(self, u: Float[Tensor, "batch channel point"]) -> Float[Tensor, "batch channel cell place dim"]:
        """Gradients at the quadrature points."""
        _, slopes, _, cells = self._cast(u)
        return torch.einsum("cqda,nhca->nhcqd", slopes, u[..., cells])

    def energy(
        self,
        u: Float[Tensor, "batch channel point"],
        parameters: Parameters,
        source: Float[Tensor, "batch channel point"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Half of ``u . A u`` minus ``f . u``: stationary at the solution, smallest there where the form is positive."""
        weights = self._cast(u)[2]
        g, v = self.gradients(u), self.values(u)
        density = 0.5 * (self.form.stress(g, self._coefficients(parameters, 2)) * g).sum((1, -1))
        reaction = self.form.reaction(v, self._coefficients(parameters, 1))
        if reaction is not None:
            density = density + 0.5 * (reaction * v).sum(1)
        if source is not None:
            density = density - (self.values(source) * v).sum(1)
        return (density * weights).sum((1, 2))

    def residual(
        self,
        u: Float[Tensor, "batch channel point"],
        parameters: Parameters,
        source: Float[Tensor, "batch channel point"] | None = None,
    ) -> Float[Tensor, "batch channel point"]:
        """``A u - b``, zero at points where u is given: what the weak form leaves over against each shape function."""
        shapes, slopes, weights, cells = self._cast(u)
        stress = self.form.stress(self.gradients(u), self._coefficients(parameters, 2)) * weights[..., None]
        local = torch.einsum("nhcqd,cqda->nhca", stress, slopes)
        here = self.form.reaction(self.values(u), self._coefficients(parameters, 1))
        if source is not None:
            f = self.values(source)
            here = -f if here is None else here - f
        if here is not None:
            local = local + (here * weights) @ shapes
        total = local.new_zeros(*local.shape[:2], self.mesh.size).index_add(2, cells.flatten(), local.flatten(2))
        return total * self.free.to(total)

    @cached_property
    def pattern(self) -> Int[Tensor, "two entry"]:
        """Rows and columns of the entries of every matrix, on fields flattened as (point, channel)."""
        keys, _ = self._keys
        return torch.stack([keys // self._unknowns, keys % self._unknowns])

    def entries(self, parameters: Parameters) -> Float[Tensor, "batch entry"]:
        """The entries of each run's matrix on the shared `pattern`, before any value is fixed; differentiable in the coefficients."""
        first = next(iter(parameters.values()))
        shapes, slopes, weights, _ = self._cast(first)
        h, a = self.channels, shapes.shape[1]
        # The response to each corner's unit value in each channel, as further runs.
        unit = torch.eye(h, dtype=first.dtype, device=first.device)
        g = torch.einsum("jh,cqda->jahcqd", unit, slopes).flatten(0, 1)
        v = torch.einsum("jh,qa->jahq", unit, shapes).flatten(0, 1)[:, :, None].expand(-1, -1, len(weights), -1)
        batch, many = len(first), h * a
        repeated = {k: parameters[k].repeat_interleave(many, 0) for k in self.form.coefficients}
        stress = self.form.stress(g.repeat(batch, 1, 1, 1, 1), self._coefficients(repeated, 2)) * weights[..., None]
        local = torch.einsum("nhcqd,cqda->nhca", stress, slopes)
        reaction = self.form.reaction(v.repeat(batch, 1, 1, 1), self._coefficients(repeated, 1))
        if reaction is not None:
            local = local + (reaction * weights) @ shapes
        # (batch, column channel, column corner, row channel, cell, row corner) to the order of the keys.
        local = local.reshape(batch, h, a, h, -1, a).permute(0, 4, 5, 3, 2, 1)
        keys, place = self._keys
        return local.new_zeros(batch, len(keys)).index_add(1, place.to(local.device), local.flatten(1))

    def matrix(self, parameters: Parameters, run: int = 0):
        """One run's whole matrix as `scipy.sparse.csr_array`, on fields flattened as (point, channel)."""
        from scipy.sparse import csr_array

        one = {k: parameters[k][run : run + 1] for k in self.form.coefficients}
        rows, columns = self.pattern.numpy()
        values = self.entries(one)[0].detach().cpu().numpy()
        return csr_array((values, (rows, columns)), shape=(self._unknowns, self._unknowns))

    def solve(
        self,
        parameters: Parameters,
        source: Float[Tensor, "batch channel point"] | None = None,
        given: Float[Tensor, "batch channel point"] | None = None,
    ) -> Float[Tensor, "batch channel point"]:
        """Solutions by one sparse LU a run (float64 inside); differentiable in coefficients, source and given values.

        Parameters
        ----------
        given : whose values at fixed points are kept (0 where None).
        """
        self._check(parameters)
        first = next(iter(parameters.values()))
        start = first.new_zeros(len(first), self.channels, self.mesh.size) if given is None else given
        start = start * (~self.free).to(start)
        inner = (self.free[:, None].expand(-1, self.channels)).flatten().nonzero()[:, 0]
        place = inner.numpy()
        with torch.no_grad():
            factors = [_factorised(self.matrix(parameters, i)[place][:, place]) for i in range(len(first))]
            u = start + self._step(start, parameters, source, factors, inner)
        # One more step with its graph: the value stays, the derivative is the solution's (implicit function theorem). Given values
        # enter through the start, with a derivative of one.
        whole = u + (start - start.detach())
        return whole + self._step(whole, parameters, source, factors, inner)

    def _step(self, u: Tensor, parameters: Parameters, source: Tensor | None, factors: list, inner: Tensor) -> Tensor:
        """What Newton's method, exact for a linear problem, adds at the free points."""
        left = -self.residual(u, parameters, source).movedim(1, 2).flatten(1)[:, inner]
        flat = left.new_zeros(len(left), self._unknowns).index_copy(1, inner, _Solve.apply(left, factors))
        return flat.unflatten(1, (self.mesh.size, self.channels)).movedim(2, 1)

    @property
    def _unknowns(self) -> int:
        return self.mesh.size * self.channels

    @cached_property
    def _keys(self) -> tuple[Tensor, Tensor]:
        """Row times unknowns plus column, each once, and which of these every entry of every cell's matrix is."""
        degrees = (self.mesh.cells[..., None] * self.channels + torch.arange(self.channels)).flatten(1)
        keys = degrees[:, :, None] * self._unknowns + degrees[:, None, :]
        return torch.unique(keys.flatten(), return_inverse=True)

    def _coefficients(self, parameters: Parameters, trailing: int) -> dict[str, Tensor]:
        self._check(parameters)
        return {k: parameters[k].reshape(len(parameters[k]), 1, -1, *[1] * trailing) for k in self.form.coefficients}

    def _check(self, parameters: Parameters) -> None:
        for name in self.form.coefficients:
            if name not in parameters:
                raise InputError(
                    f"{type(self.form).__name__} needs the coefficient {name!r}; the parameters given are {sorted(parameters)}."
                )
            if parameters[name].ndim != 2 or parameters[name].shape[1] != len(self.mesh.cells):
                raise ShapeError(
                    f"The coefficient {name!r} has shape {tuple(parameters[name].shape)}; expected (batch, {len(self.mesh.cells)}), "
                    "one value a cell."
                )

    def _cast(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        key = (like.dtype, like.device)
        if key not in self._casts:
            found = (self._shapes.to(like), self._slopes.to(like), self._weights.to(like))
            self._casts[key] = (*found, self.mesh.cells.to(like.device))
        return self._casts[key]


class _Solve(torch.autograd.Function):
    """Sparse solves, one factorised symmetric matrix a run, with gradients to the right-hand sides."""

    @staticmethod
    def forward(ctx, right: Tensor, factors: list) -> Tensor:
        ctx.factors = factors
        return _each(factors, right)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return _each(ctx.factors, gradient), None


def _factorised(matrix):
    from scipy.sparse.linalg import splu

    try:
        return splu(matrix.astype(np.float64).tocsc())
    except RuntimeError as error:
        raise UnstableStep(
            f"The matrix of the elements is singular ({error}): fix u on a part of the boundary, or move off the resonance."
        ) from None


def _each(factors: list, right: Tensor) -> Tensor:
    wide = right.detach().double().cpu().numpy()
    return torch.from_numpy(np.stack([f.solve(r) for f, r in zip(factors, wide, strict=True)])).to(right)


def _quadrature(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Shape functions (place, corner), their slopes on the reference cell (place, dim, corner), and weights (place,)."""
    if kind == "quad":
        s = (1 - 1 / math.sqrt(3)) / 2
        x = torch.tensor([(a, b) for a in (s, 1 - s) for b in (s, 1 - s)], dtype=torch.float64)
        a, b = x[:, 0], x[:, 1]
        shapes = torch.stack([(1 - a) * (1 - b), a * (1 - b), a * b, (1 - a) * b], -1)
        slopes = torch.stack([torch.stack([b - 1, 1 - b, b, -b], -1), torch.stack([a - 1, -a, a, 1 - a], -1)], 1)
        return shapes, slopes, torch.full((4,), 0.25, dtype=torch.float64)
    dim, volume = SIMPLICES[kind]
    far, near = INNER[dim]
    shapes = torch.full((dim + 1, dim + 1), near, dtype=torch.float64).fill_diagonal_(far)
    slopes = torch.cat([-torch.ones(dim, 1), torch.eye(dim)], dim=1).double().expand(dim + 1, -1, -1)
    return shapes, slopes, torch.full((dim + 1,), volume / (dim + 1), dtype=torch.float64)


SIMPLICES: Mapping[str, tuple[int, float]] = {"triangle": (2, 1 / 2), "tetra": (3, 1 / 6)}
INNER: Mapping[int, tuple[float, float]] = {
    2: (2 / 3, 1 / 6),
    3: ((5 + 3 * math.sqrt(5)) / 20, (5 - math.sqrt(5)) / 20),
}
"""Barycentric coordinates of the points of degree 2: one large, the others equal."""
