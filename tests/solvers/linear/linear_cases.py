"""Small systems of every kind, with their dense matrices, shared by the tests of this folder."""

from __future__ import annotations

import math

import scipy.sparse
import scipy.sparse.linalg
import torch

from slipstream.solvers.linear import Diffusion, Stencil
from slipstream.solvers.linear.systems import convection_diffusion, gaussian_fields, helmholtz, unit_box


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def positive(num_points: int = 8, count: int = 1, dtype=torch.float64) -> Stencil:
    """Real, symmetric positive definite."""
    grid = unit_box(num_points, 2)
    return Diffusion(gaussian_fields(count, grid, seeded(1)).exp().to(dtype), grid)


def magnetic(num_points: int = 8, count: int = 1) -> Stencil:
    """Complex, Hermitian positive definite: hops with a phase, as of a charge in a magnetic field."""
    plain = positive(num_points, count)
    phase = torch.exp(1j * math.pi * torch.rand(2, count, *plain.space, generator=seeded(2), dtype=torch.float64))
    above = [a * p for a, p in zip(plain.above, phase, strict=True)]
    below = [torch.roll(a.conj(), 1, i) for i, a in enumerate(above, start=1)]
    return Stencil(plain.centre * 1.05 + 0j, below, above, plain.ring, hermitian=True)


def indefinite(num_points: int = 8, count: int = 1) -> Stencil:
    """Real, symmetric, of both signs."""
    return helmholtz(count, num_points, seeded(3), wavenumber=9.0, absorption=0.0).A


def transport(num_points: int = 8, count: int = 1) -> Stencil:
    """Real, not symmetric."""
    return convection_diffusion(count, num_points, seeded(4), dims=2, diffusivity=0.05).A


def waves(num_points: int = 8, count: int = 1) -> Stencil:
    """Complex, not Hermitian, indefinite."""
    return helmholtz(count, num_points, seeded(5), wavenumber=9.0, absorption=0.3).A


SYSTEMS = {
    "positive": positive,
    "magnetic": magnetic,
    "indefinite": indefinite,
    "transport": transport,
    "waves": waves,
}

KINDS = ("stencil", "function", "scipy", "operator", "csr", "coo", "dense")


def as_kind(A: Stencil, kind: str):
    """One matrix, as each of the things that may stand for it; a plain function and matrices take flat vectors."""
    dense = A.dense()[0]
    if kind == "stencil":
        return A
    if kind == "function":

        def function(v):
            return v @ dense.T

        if A.hermitian:
            function.hermitian = True
        return function
    if kind == "scipy":
        return scipy.sparse.csc_array(dense.numpy())
    if kind == "operator":
        return scipy.sparse.linalg.aslinearoperator(dense.numpy())
    if kind == "csr":
        return dense.to_sparse_csr()
    return dense.to_sparse_coo() if kind == "coo" else dense


def right_hand_side(A: Stencil, kind: str, rhs: int | None, seed: int = 9):
    shape = A.space if kind == "stencil" else (A.centre[0].numel(),)
    shape = shape if rhs is None else (rhs, *shape)
    return torch.randn(shape, generator=seeded(seed), dtype=A.dtype)
