"""Proper orthogonal decomposition, and what is built on it for steady problems: Galerkin projection with sampled residuals."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slipstream.errors import InputError, UnstableStep
from slipstream.pretrained import Pretrained


class POD(Pretrained):
    """The best linear subspace for snapshots: ``decode(encode(u))`` is the nearest u in it.

    Parameters
    ----------
    size : values of one (flattened) field. rank : number of modes. centred : whether the mean of the snapshots is set apart.

    References
    ----------
    Sirovich, Q. Appl. Math. 45 (1987) 561.
    """

    mean: Tensor
    modes: Tensor
    energies: Tensor

    def __init__(self, size: int, rank: int, centred: bool = True) -> None:
        super().__init__()
        if not 1 <= rank <= size:
            raise InputError(f"POD expects a rank between 1 and size={size}; got {rank}.")
        self.size, self.rank, self.centred = size, rank, centred
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("modes", torch.zeros(size, rank))
        self.register_buffer("energies", torch.zeros(rank))

    @classmethod
    def of(
        cls,
        snapshots: Float[Tensor, "sample size"],
        energy: float = 0.9999,
        rank: int | None = None,
        centred: bool = True,
    ) -> POD:
        """Fitted to snapshots; the rank where None is the smallest that keeps this share of their energy.

        For a weighted norm multiply snapshots by the square root of the weights.
        """
        u = snapshots.double()
        mean = u.mean(0) if centred else torch.zeros_like(u[0])
        _, size, right = torch.linalg.svd(u - mean, full_matrices=False)
        share = size.square().cumsum(0) / size.square().sum().clamp(min=1e-300)
        rank = int((share < energy).sum()) + 1 if rank is None else rank
        model = cls(u.shape[1], min(rank, len(size)), centred).double()
        model.mean.copy_(mean)
        model.modes.copy_(right[: model.rank].mT)
        model.energies.copy_(size[: model.rank].square() / size.square().sum().clamp(min=1e-300))
        return model.to(snapshots.dtype)

    def encode(self, u: Float[Tensor, "batch size"]) -> Float[Tensor, "batch rank"]:
        return (u - self.mean) @ self.modes

    def decode(self, c: Float[Tensor, "batch rank"]) -> Float[Tensor, "batch size"]:
        return self.mean + c @ self.modes.mT


def deim(modes: Float[Tensor, "size rank"]) -> Int[Tensor, " rank"]:
    """Where to sample a vector in the span of some modes so that the samples fix it best (greedy).

    References
    ----------
    Chaturantabut & Sorensen, SIAM J. Sci. Comput. 32 (2010) 2737.
    """
    rows = [int(modes[:, 0].abs().argmax())]
    for j in range(1, modes.shape[1]):
        known = modes[:, :j]
        fit = torch.linalg.solve(known[rows], modes[rows, j])
        rows.append(int((modes[:, j] - known @ fit).abs().argmax()))
    return torch.tensor(rows, device=modes.device)


class PODGalerkin:
    """Solves ``residual(u; p) = 0`` for u in a POD subspace, by Newton's method on the projected residual.

    Parameters
    ----------
    basis : of the solutions.
    residual : ``(u (size,), p (k,), rows) -> (rows,)``, torch operations only: the residual at some rows (all where None).
    residuals : modes of the residuals' nonlinear and other parts; with them only as many rows are evaluated as there are modes (DEIM).
    tolerance : of the projected residual, relative to that of the mean field.
    """

    def __init__(
        self,
        basis: POD,
        residual: Callable[[Tensor, Tensor, Tensor | None], Tensor],
        residuals: POD | None = None,
        tolerance: float = 1e-8,
        max_iterations: int = 30,
    ) -> None:
        self.basis, self.residual, self.residuals = basis, residual, residuals
        self.tolerance, self.max_iterations = tolerance, max_iterations
        if residuals is None:
            self._rows, self._project = None, basis.modes.mT
        else:
            if residuals.centred or residuals.rank < basis.rank:
                raise InputError(
                    f"Sampled residuals need an uncentred POD of at least the basis' {basis.rank} modes; got {residuals.rank} modes, "
                    f"centred={residuals.centred}."
                )
            self._rows = deim(residuals.modes)
            inner = residuals.modes[self._rows]
            self._project = torch.linalg.solve(inner.mT, (basis.modes.mT @ residuals.modes).mT).mT

    def __call__(self, p: Float[Tensor, "batch k"]) -> Float[Tensor, "batch size"]:
        """Solutions for some parameters.

        Raises
        ------
        UnstableStep : Newton's method did not converge.
        """

        def projected(c: Tensor, q: Tensor) -> Tensor:
            return self._project @ self.residual(self.basis.decode(c[None])[0], q, self._rows)

        value = torch.func.vmap(projected)
        slope = torch.func.vmap(torch.func.jacfwd(projected))
        c = p.new_zeros(len(p), self.basis.rank)
        r = value(c, p)
        scale = r.norm(dim=1).clamp(min=1e-30)
        for _ in range(self.max_iterations):
            if bool((r.norm(dim=1) <= self.tolerance * scale).all()):
                return self.basis.decode(c)
            c = c - torch.linalg.solve(slope(c, p), r)
            r = value(c, p)
        raise UnstableStep(
            f"PODGalerkin kept a relative residual of {float((r.norm(dim=1) / scale).max()):.2g} after {self.max_iterations} Newton steps."
        )
