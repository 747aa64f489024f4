"""The Laplacian as a preconditioner for coefficients that jump."""

from __future__ import annotations

import torch

from slipstream.errors import InputError
from slipstream.solvers.linear.diffusion import Diffusion
from slipstream.solvers.linear.maps import FunctionMap, LinearMap
from slipstream.solvers.linear.method import Inverse, Preconditioner
from slipstream.solvers.linear.poisson import FastPoisson


class Flat(Preconditioner):
    r"""Inverse of the `Diffusion` with coefficient 1, by transforms; for coefficients that jump between few values.

    The preconditioned matrix has its eigenvalues between the smallest and the largest coefficient, whatever the grid, so `CG` needs at most
    about :math:`\frac12\sqrt{\kappa}\,\log(2/\epsilon)` iterations for a contrast :math:`\kappa`. `FastPoisson`, which scales with the
    coefficient, is the better one for smooth coefficients of large contrast, and much worse across jumps.

    Parameters
    ----------
    single : transforms in single precision; with ``CG(flexible=True)``.

    Source: Gunn, Numer. Math. 6 (1964) 181; Nielsen, Tveito & Hackbusch, IMA J. Numer. Anal. 29 (2009) 24.
    """

    def __init__(self, single: bool = False) -> None:
        self.single = single

    def build(self, A: LinearMap) -> Inverse:
        source = A.source
        if not isinstance(source, Diffusion) or source.dtype.is_complex:
            raise InputError(f"Flat preconditions a real Diffusion; got {type(source).__name__}.")
        one = torch.ones_like(source.coefficient[:1].detach())
        plain = Diffusion(one, source.grid, source.boundaries_given)
        return FastPoisson(self.single).build(FunctionMap(plain, plain.space, one.dtype, one.device))
