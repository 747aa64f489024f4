"""GCRO-DR: GMRES that keeps the hard directions over restarts, and from one system to the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from slipstream.errors import InputError
from slipstream.solvers.linear.arnoldi import Arnoldi
from slipstream.solvers.linear.harmonic import harmonic_ritz
from slipstream.solvers.linear.maps import LinearMap
from slipstream.solvers.linear.method import Inverse, Method, Trace


@dataclass(frozen=True)
class Recycled:
    """A subspace to carry to the next system, as rows.

    Attributes
    ----------
    vectors : U (k, n), in the space of x.
    preconditioned : M U (k, n), in the space in which the right-preconditioned operator acts; U itself without a preconditioner.
    """

    vectors: Shaped[Tensor, "k n"]
    preconditioned: Shaped[Tensor, "k n"]


@dataclass(frozen=True)
class Cycle:
    """One cycle, whole: what its invariants speak of.

    ``A U = C`` and ``C^H C = I`` for the subspace that the cycle began with (`vectors`, `images`) and for the one that it ends with
    (`recycled`, `new_images`); ``A Z = [C, V] G``.
    """

    x: Shaped[Tensor, " n"]
    residual: Shaped[Tensor, " n"]
    norms: list[float]
    vectors: Shaped[Tensor, "k n"]
    images: Shaped[Tensor, "k n"]
    basis: Shaped[Tensor, "rows n"]
    search: Shaped[Tensor, "columns n"]
    G: np.ndarray
    recycled: Recycled | None
    new_images: Shaped[Tensor, "kept n"]


class GCRODR(Method):
    r"""GCRO-DR(restart, recycle), preconditioned from the right; for a sequence of systems, hand `result.recycled` on.

    Each cycle searches in :math:`[U, Z]`, k kept directions and ``restart - k`` new ones, and keeps the k harmonic Ritz vectors of
    smallest value. With ``recycle=0`` it is GMRES(restart). One right-hand side at a time.

    The products that bring a carried subspace into line with a new matrix (``A U``, k of them) are counted as iterations.

    Parameters
    ----------
    restart : m, directions a cycle. recycle : k, directions kept.
    space : the subspace to start with, of an earlier system.

    Source: Parks, de Sturler, Mackey, Johnson & Maiti, SIAM J. Sci. Comput. 28 (2006) 1651; sequences of systems sorted by their
    parameters: Wang et al., ICLR 2024.
    """

    def __init__(self, restart: int = 40, recycle: int = 20, space: Recycled | None = None) -> None:
        if not (restart >= 1 and 0 <= recycle < restart):
            raise InputError(f"0 <= recycle < restart is needed; got restart={restart}, recycle={recycle}.")
        self.restart, self.recycle, self.space = restart, recycle, space

    def for_adjoint(self) -> GCRODR:
        return GCRODR(self.restart, self.recycle)

    def iterate(self, A, x, residual, inverse, target, max_iterations) -> Trace:
        if x.shape[0] != 1:
            raise InputError(
                f"GCRODR solves one right-hand side at a time, each profiting from the last; got {x.shape[0]}. "
                "Use solve_sequence, or GMRES for many at once."
            )
        trace, goal = Trace(x), float(target[0])
        last = float(torch.linalg.vector_norm(residual))
        for cycle in self.cycles(A, x[0], residual[0], inverse, goal, max_iterations):
            trace.x = cycle.x[None]
            trace.iterations += len(cycle.norms)
            trace.norms += [torch.tensor([value], dtype=target.dtype, device=target.device) for value in cycle.norms]
            trace.recycled = cycle.recycled
            now = cycle.norms[-1]
            if not np.isfinite(now):
                trace.reason = "GCRODR left finite numbers"
                break
            if now > max(goal, (1 - 1e-6) * last):
                trace.reason = f"GCRODR({self.restart}, {self.recycle}) stagnates: give a larger restart or a better preconditioner"
                break
            last = now
        return trace

    def cycles(
        self,
        A: LinearMap,
        x: Shaped[Tensor, " n"],
        residual: Shaped[Tensor, " n"],
        inverse: Inverse | None,
        goal: float,
        max_iterations: int,
    ) -> Iterator[Cycle]:
        """The cycles one by one, until the residual is at or below `goal` or the iterations are used up."""
        r = residual
        U, Y, C = self._warm(A, inverse, r)
        used = 0 if self.space is None or self.recycle == 0 else self.space.vectors.shape[0]
        norms = [float(torch.linalg.vector_norm(r - _combine(_project(C, r), C)))] * used
        while True:
            # What rounding left of C in the residual grows relative to it as it shrinks: take it out, exactly, every time.
            along = _project(C, r)
            x, r = x + _combine(along, U), r - _combine(along, C)
            k = U.shape[0]
            steps = max(min(self.restart - k, max_iterations - used), 0)
            space = Arnoldi(A, inverse, r[None], steps, C[None])
            length = float(space.length[0])
            for _ in range(steps):
                if not goal < length < np.inf:
                    break
                length = float(space.step()[0])
                norms.append(length)
            used += space.j
            if space.j == 0 or not np.isfinite(length):
                kept = Recycled(U, Y) if k else None
                yield Cycle(x, r, norms or [length], U, C, C, U, np.eye(k, dtype=space.g.dtype), kept, C)
                return
            cycle, Y = self._close(space, x, r, norms, U, Y, C)
            yield cycle
            if length <= goal or used >= max_iterations:
                return
            x, r, norms, C = cycle.x, cycle.residual, [], cycle.new_images
            U = U[:0] if cycle.recycled is None else cycle.recycled.vectors

    def _warm(self, A: LinearMap, inverse: Inverse | None, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The carried subspace brought into line with A: U, M U and C with A U = C, C orthonormal."""
        none = r.new_zeros(0, r.shape[0])
        if self.space is None or self.recycle == 0:
            return none, none, none
        U, Y = self.space.vectors.to(r), self.space.preconditioned.to(r)
        if U.shape[1] != r.shape[0]:
            raise InputError(
                f"The carried subspace has vectors of {U.shape[1]} unknowns; this system has {r.shape[0]}."
            )
        forward = getattr(inverse, "forward", None)
        if inverse is None:
            Y = U
        elif forward is not None:
            Y = forward(U)
        else:
            U = inverse(Y)
        image = A(U)
        Q, R = torch.linalg.qr(image.T)
        sizes = R.diagonal().abs()
        kept = sizes > 1e-10 * sizes.max()
        if not bool(kept.all()):
            U, Y = U[kept], Y[kept]
            Q, R = torch.linalg.qr(image[kept].T)
        return _divide(U, R), _divide(Y, R), Q.T.contiguous()

    def _close(self, space: Arnoldi, x, r, norms, U, Y, C) -> tuple[Cycle, Tensor]:
        """The best correction in [U, Z], and the subspace to keep."""
        k, j = U.shape[0], space.j
        basis = space.basis[0, : k + j + 1]
        Z = basis[k : k + j] if space.z is None else space.z[0, :j]
        G = np.zeros((k + j + 1, k + j), space.g.dtype)
        scale = 1 / torch.linalg.vector_norm(U, dim=1)
        G[:k, :k] = np.diag(scale.cpu().numpy())
        G[:, k:] = space.g[0, : k + j + 1, :j]
        new = space.coefficients()[0]
        old = -(G[:k, k:] @ new) / np.diagonal(G[:k, :k])
        y = np.concatenate([old, new])
        search = torch.cat([U * scale[:, None].to(U.dtype), Z])
        x = x + _combine(_tensor(y, r), search)
        r = r - _combine(_tensor(G @ y, r), basis)
        kept, Y, images = self._keep(G, basis, search, Y * scale[:, None].to(Y.dtype), k, j)
        return Cycle(x, r, norms, U, C, basis, search, G, kept, images), Y

    def _keep(self, G, basis, search, Y, k, j) -> tuple[Recycled | None, Tensor, Tensor]:
        count = min(self.recycle, k + j - 1)
        if count <= 0:
            return None, basis[:0], basis[:0]
        T = np.zeros_like(G)
        T[k : k + j, k:] = np.eye(j)
        if k:
            T[:, :k] = (basis.conj() @ Y.T).cpu().numpy()
        P = harmonic_ritz(G, T, count)
        Q, R = np.linalg.qr(G @ P)
        sizes = np.abs(np.diagonal(R))
        if sizes.size and (sizes <= 1e-12 * sizes.max()).any():
            P = P[:, sizes > 1e-12 * sizes.max()]
            Q, R = np.linalg.qr(G @ P)
        if P.shape[1] == 0:
            return None, basis[:0], basis[:0]
        weights = _tensor(np.linalg.solve(R.T, P.T), basis)
        own = torch.cat([Y, basis[k : k + j]])
        vectors, own = weights @ search, weights @ own
        return Recycled(vectors, own), own, _tensor(Q.T, basis) @ basis


def _tensor(a: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(a)).to(like)


def _project(rows: Tensor, v: Tensor) -> Tensor:
    """``C^H v`` for C given as rows."""
    return (rows @ v.conj().resolve_conj()).conj().resolve_conj()


def _combine(weights: Tensor, rows: Tensor) -> Tensor:
    return weights @ rows


def _divide(rows: Tensor, R: Tensor) -> Tensor:
    """``U R^-1`` for U given as rows."""
    return torch.linalg.solve_triangular(R.T, rows, upper=False)


def largest_angle(space: Shaped[Tensor, "k n"], target: Shaped[Tensor, "j n"]) -> float:
    r"""Sine of the largest principal angle between a target subspace and a space, both as rows: :math:`\|(I - \Pi_C) \Pi_Q\|_2`.

    0 where the space holds the whole target, 1 where it misses a direction of it.
    """
    C, Q = torch.linalg.qr(space.T)[0], torch.linalg.qr(target.T)[0]
    return float(torch.linalg.matrix_norm(Q - C @ (C.mH @ Q), 2))
