"""A fast Poisson solver: one transform, one division, one transform back."""

from __future__ import annotations

import torch
from torch import Tensor

from slipstream.errors import InputError
from slipstream.solvers.linear.diffusion import Diffusion
from slipstream.solvers.linear.maps import LinearMap
from slipstream.solvers.linear.method import Correction, Inverse
from slipstream.solvers.linear.transforms import AxisTransform, eigenvalues


class FastPoisson(Correction):
    r"""Solves a `Diffusion` with constant coefficient and shift by sine, cosine and Hartley transforms, batched over systems.

    As a preconditioner it serves variable coefficients too: :math:`a^{-1/2} A a^{-1/2}` is the Laplacian plus a potential, so the inverse
    of the Laplacian plus the mean of that potential, scaled back, needs a number of iterations that does not grow with the grid.
    On a periodic or Neumann box without shift the mean of the solution is taken as zero.

    Parameters
    ----------
    single : transform in single precision, at half the cost; for a preconditioner, with ``CG(flexible=True)``.

    Source: Concus & Golub, SIAM J. Numer. Anal. 10 (1973) 1103; Swarztrauber, SIAM Review 19 (1977) 490.
    """

    def __init__(self, single: bool = False) -> None:
        self.single = single

    def check(self, A: LinearMap) -> None:
        source = _diffusion(A, "FastPoisson")
        shift = source.shift
        varies = _varies(source.coefficient) or (isinstance(shift, Tensor) and _varies(shift))
        if varies:
            raise InputError(
                "FastPoisson solves for a constant coefficient and shift; these vary in space. "
                "Use method=CG(), preconditioner=FastPoisson()."
            )

    def build(self, A: LinearMap) -> Inverse:
        source = _diffusion(A, "FastPoisson")
        return _Transformed(source, torch.float32 if self.single else source.coefficient.dtype, source.space)


class _Transformed:
    def __init__(self, source: Diffusion, dtype: torch.dtype, space: tuple[int, ...]) -> None:
        a, device = source.coefficient.detach(), source.coefficient.device
        shift = source.shift.detach() if isinstance(source.shift, Tensor) else source.shift
        self.space, self.dtype = space, dtype
        self.axes = [AxisTransform(b, n, dtype, device) for b, n in zip(source.boundaries, space, strict=True)]
        waves = torch.zeros(space, dtype=torch.float64)
        for axis, (b, n, h) in enumerate(zip(source.boundaries, space, source.grid.spacing, strict=True)):
            shape = [1] * len(space)
            shape[axis] = n
            waves = waves + eigenvalues(b, n).reshape(shape) / h**2
        over = tuple(range(1, a.ndim))
        varies = _varies(a)
        self.scale = (1 / a.sqrt()).to(dtype) if varies else None
        factor = a.new_ones(1) if varies else a.flatten(1)[:, 0]
        mean = (shift / a).mean(over) if isinstance(shift, Tensor) else shift * (1 / a).mean(over)
        if not varies:
            mean = shift.mean(over) if isinstance(shift, Tensor) else shift * torch.ones_like(factor)
        else:
            # A = a^1/2 (L + q) a^1/2 with q = -(L a^1/2) / a^1/2, walls apart: they are in L already.
            root, one = a.sqrt(), torch.ones_like(a[:1])
            plain = Diffusion(one, source.grid, source.boundaries_given)
            mean = mean + (plain(one) - plain(root) / root).mean(over).clamp(min=0)
        column = (-1, *([1] * len(space)))
        symbol = factor.reshape(column) * waves.to(a) + mean.reshape(column)
        self.reciprocal = torch.where(symbol.abs() > 1e-12 * symbol.abs().max(), 1 / symbol, 0)
        self.reciprocal = self.reciprocal.to(dtype.to_complex() if self.reciprocal.is_complex() else dtype)

    def __call__(self, r: Tensor) -> Tensor:
        u = r.reshape(-1, *self.space)
        u = u.to(self.dtype.to_complex() if u.is_complex() else self.dtype)
        u = u if self.scale is None else u * self.scale
        u = self._each(u, lambda t, v, axis: t.forward(v, axis)) * self.reciprocal
        u = self._each(u, lambda t, v, axis: t.inverse(v, axis))
        u = u if self.scale is None else u * self.scale
        return u.reshape(r.shape).to(r.dtype)

    def _each(self, u: Tensor, apply) -> Tensor:
        if u.is_complex():
            return torch.complex(self._each(u.real.contiguous(), apply), self._each(u.imag.contiguous(), apply))
        for axis, transform in enumerate(self.axes, start=1):
            u = apply(transform, u, axis)
        return u

    @property
    def H(self) -> _Transformed:
        other = object.__new__(_Transformed)
        other.__dict__.update(self.__dict__, reciprocal=self.reciprocal.conj().resolve_conj())
        return other


def _varies(u: Tensor) -> bool:
    flat = u.detach().flatten(1)
    return bool(((flat - flat[:, :1]).abs() > 1e-14 * flat.abs().amax(1, keepdim=True)).any())


def _diffusion(A: LinearMap, purpose: str) -> Diffusion:
    if not isinstance(A.source, Diffusion):
        raise InputError(f"{purpose} works on a Diffusion; got {type(A.source).__name__}.")
    return A.source
