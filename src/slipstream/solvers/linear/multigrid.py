"""Geometric multigrid for diffusion with a varying coefficient, batched over systems, in torch."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor

from slipstream.errors import InputError
from slipstream.solvers.linear.diffusion import Diffusion
from slipstream.solvers.linear.maps import LinearMap
from slipstream.solvers.linear.method import Correction, Inverse
from slipstream.solvers.linear.transforms import Boundary


class Multigrid(Correction):
    """V-cycles on a `Diffusion` in one, two or three dimensions: a number of iterations that does not grow with the grid.

    Red-black Gauss-Seidel, interpolation linear between cell centres, restriction its transpose, coefficients averaged over cells, the
    coarsest level solved exactly.

    Parameters
    ----------
    sweeps : of the smoother before, and after, each visit to a coarser level.
    symmetric : smooth in the opposite order after the visit, which makes the cycle symmetric and positive: what `CG` and `MINRES` need
        of a preconditioner. False converges faster as a method of its own.
    coarsest : levels are added until this many unknowns or fewer are left, as long as the points halve.

    Raises
    ------
    InputError : A is not a real `Diffusion` with shift >= 0, or its points do not halve often enough.

    Source: Trottenberg, Oosterlee & Schueller, Multigrid (2001), chapters 2 and 5.
    """

    def __init__(self, sweeps: int = 1, symmetric: bool = True, coarsest: int = 64) -> None:
        if sweeps < 1:
            raise InputError(f"sweeps must be at least 1; got {sweeps}.")
        self.sweeps, self.symmetric, self.coarsest = sweeps, symmetric, coarsest

    def build(self, A: LinearMap) -> Inverse:
        source = A.source
        if not isinstance(source, Diffusion) or source.dtype.is_complex:
            raise InputError(f"Multigrid works on a real Diffusion; got {type(source).__name__}. Use AMG() or ILU().")
        shift = source.shift if isinstance(source.shift, Tensor) else torch.tensor(source.shift)
        if bool((shift < 0).any()):
            raise InputError(
                "Multigrid needs a shift >= 0; with a negative one A may be indefinite. Use GMRES() or LU()."
            )
        level = Diffusion(source.coefficient.detach(), source.grid, source.boundaries_given, _detached(source.shift))
        levels = [_Level(level, self.sweeps, self.symmetric)]
        while level.grid.size > self.coarsest and all(n % 2 == 0 and n >= 4 for n in level.grid.shape):
            level = level.coarser()
            levels.append(_Level(level, self.sweeps, self.symmetric))
        if level.grid.size > 1024:
            raise InputError(
                f"Multigrid cannot halve {source.grid.shape} far enough: {level.grid.shape} is left to be solved directly. "
                "Use numbers of points that are small numbers times powers of two, such as 48 or 64."
            )
        dense = level.dense()
        coarse = torch.linalg.pinv(dense, hermitian=True) if level.singular else torch.linalg.inv(dense)

        def inverse(r: Tensor) -> Tensor:
            return _cycle(levels, coarse, r.reshape(-1, *source.space)).reshape(r.shape)

        return inverse


def _detached(shift):
    return shift.detach() if isinstance(shift, Tensor) else shift


class _Level:
    """One grid: its operator, and the two colours of its smoother divided by the diagonal."""

    def __init__(self, operator: Diffusion, sweeps: int, symmetric: bool) -> None:
        self.operator, self.sweeps = operator, sweeps
        parity = torch.stack(torch.meshgrid(*(torch.arange(n) for n in operator.space), indexing="ij")).sum(0) % 2
        parity = parity.to(operator.centre.device)
        self.red = torch.where(parity == 0, 1 / operator.centre, 0)
        self.black = torch.where(parity == 1, 1 / operator.centre, 0)
        self.last = (self.black, self.red) if symmetric else (self.red, self.black)

    def before(self, b: Tensor) -> Tensor:
        x = self.red * b
        x = torch.addcmul(x, self.black, b - self.operator(x))
        for _ in range(self.sweeps - 1):
            x = torch.addcmul(x, self.red, b - self.operator(x))
            x = torch.addcmul(x, self.black, b - self.operator(x))
        return x

    def after(self, x: Tensor, b: Tensor) -> Tensor:
        for _ in range(self.sweeps):
            for colour in self.last:
                x = torch.addcmul(x, colour, b - self.operator(x))
        return x


def _cycle(levels: list[_Level], coarse: Tensor, b: Tensor) -> Tensor:
    top = levels[0]
    if len(levels) == 1:
        flat = torch.matmul(coarse, b.flatten(1)[:, :, None])[:, :, 0]
        return flat.reshape(b.shape)
    x = top.before(b)
    boundaries = top.operator.boundaries
    below = _cycle(levels[1:], coarse, restrict(b - top.operator(x), boundaries))
    return top.after(x + prolong(below, boundaries), b)


def _ends(u: Tensor, axis: int, boundary: Boundary) -> Tensor:
    """One more value at each end of an axis: the mirror image across a wall, or the other side of the ring."""
    first, last = u.narrow(axis, 0, 1), u.narrow(axis, u.shape[axis] - 1, 1)
    if boundary is Boundary.PERIODIC:
        return torch.cat([last, u, first], axis)
    return torch.cat([-first, u, -last] if boundary is Boundary.DIRICHLET else [first, u, last], axis)


def prolong(u: Shaped[Tensor, "batch *coarse"], boundaries: tuple[Boundary, ...]) -> Shaped[Tensor, "batch *fine"]:
    """Linear interpolation from cell centres to those of a grid twice as fine."""
    for axis, boundary in enumerate(boundaries, start=1):
        n = u.shape[axis]
        wide = _ends(u, axis, boundary)
        left = 0.75 * u + 0.25 * wide.narrow(axis, 0, n)
        right = 0.75 * u + 0.25 * wide.narrow(axis, 2, n)
        u = torch.stack([left, right], axis + 1).flatten(axis, axis + 1)
    return u


def restrict(u: Shaped[Tensor, "batch *fine"], boundaries: tuple[Boundary, ...]) -> Shaped[Tensor, "batch *coarse"]:
    """The transpose of `prolong`, divided by two an axis."""
    for axis, boundary in enumerate(boundaries, start=1):
        n = u.shape[axis] // 2
        pairs = _ends(u, axis, boundary).unflatten(axis, (n + 1, 2))
        first, second = pairs.select(axis + 1, 0), pairs.select(axis + 1, 1)
        outer = first.narrow(axis, 0, n) + second.narrow(axis, 1, n)
        inner = second.narrow(axis, 0, n) + first.narrow(axis, 1, n)
        u = 0.375 * inner + 0.125 * outer
    return u
