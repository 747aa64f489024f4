"""Arnoldi: an orthonormal basis of a Krylov space, and the least-squares problem that lives on it."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from slipstream.solvers.linear.maps import LinearMap
from slipstream.solvers.linear.method import Inverse, norm


class Arnoldi:
    r"""Builds :math:`A Z_j = [C, V_{j+1}] \bar G_j` step by step, for each right-hand side its own.

    V starts with the residual; ``Z = M^-1 V``; every new vector is made orthogonal, twice, to the fixed rows C and to all of V. The last
    rows of :math:`\bar G` are the Hessenberg matrix H, the first ones :math:`B = C^H A Z`.

    Parameters
    ----------
    residual : where V starts; orthogonal to C.
    steps : the most that will be taken.
    fixed : C, orthonormal rows (rhs, k, n), or None.
    keep : store Z, so that the preconditioner may change from step to step; else it is applied once more at the end.
    """

    def __init__(
        self,
        A: LinearMap,
        inverse: Inverse | None,
        residual: Shaped[Tensor, "rhs n"],
        steps: int,
        fixed: Shaped[Tensor, "rhs k n"] | None = None,
        keep: bool = True,
    ) -> None:
        self.A, self.inverse = A, inverse
        rows, n = residual.shape
        self.k = 0 if fixed is None else fixed.shape[1]
        self.basis = residual.new_zeros(rows, self.k + steps + 1, n)
        if fixed is not None:
            self.basis[:, : self.k] = fixed
        self.length = norm(residual)
        self.basis[:, self.k] = residual / torch.where(self.length > 0, self.length, 1)[:, None]
        self.z = None if inverse is None or not keep else residual.new_zeros(rows, steps, n)
        kind = np.zeros(0, dtype=residual[:0, :0].cpu().numpy().dtype).dtype
        self.g = np.zeros((rows, self.k + steps + 1, steps), kind)
        self.j = 0
        # Rotations are kept multiplied out, so that a new column costs one small product and not a loop.
        self._turn = np.broadcast_to(np.eye(steps + 1, dtype=kind), (rows, steps + 1, steps + 1)).copy()
        self._right = np.zeros((rows, steps + 1), kind)
        self._right[:, 0] = self.length.cpu().numpy()
        self._upper = np.zeros((rows, steps + 1, steps), kind)

    def step(self) -> np.ndarray:
        """One product with A; returns the residual norms (rhs,) of the least-squares problem so far."""
        j, k = self.j, self.k
        v = self.basis[:, k + j]
        z = v
        if self.inverse is not None:
            z = self.inverse(v)
            if self.z is not None:
                self.z[:, j] = z
        w = self.A(z)
        known = self.basis[:, : k + j + 1]
        first = torch.bmm(known, w.conj().resolve_conj()[:, :, None]).conj().resolve_conj()
        w = torch.baddbmm(w[:, None], first.mT, known, alpha=-1)[:, 0]
        second = torch.bmm(known, w.conj().resolve_conj()[:, :, None]).conj().resolve_conj()
        w = torch.baddbmm(w[:, None], second.mT, known, alpha=-1)[:, 0]
        length = norm(w)
        self.basis[:, k + j + 1] = w / torch.where(length > 0, length, 1)[:, None]
        column = self.g[:, :, j]
        column[:, : k + j + 1] = (first + second)[:, :, 0].cpu().numpy()
        column[:, k + j + 1] = length.cpu().numpy()
        self._rotate(j)
        self.j = j + 1
        return np.abs(self._right[:, j + 1])

    def _rotate(self, j: int) -> None:
        turn = self._turn[:, : j + 2, : j + 2]
        h = (turn @ self.g[:, self.k : self.k + j + 2, j, None])[:, :, 0]
        a, b = h[:, j], h[:, j + 1]
        length = np.hypot(np.abs(a), np.abs(b))
        safe = np.where(length > 0, length, 1)
        c, s = np.where(length > 0, a / safe, 1), b / safe
        self._upper[:, :j, j] = h[:, :j]
        self._upper[:, j, j] = length
        for rows in (self._turn[:, j : j + 2], self._right[:, j : j + 2, None]):
            top = c.conj()[:, None] * rows[:, 0] + s.conj()[:, None] * rows[:, 1]
            low = -s[:, None] * rows[:, 0] + c[:, None] * rows[:, 1]
            rows[:, 0], rows[:, 1] = top, low

    def coefficients(self) -> np.ndarray:
        """The minimiser y (rhs, j) of ``|| length e_1 - H y ||``."""
        j = self.j
        upper, right = self._upper[:, :j, :j], self._right[:, :j]
        sizes = np.abs(np.diagonal(upper, axis1=1, axis2=2))
        if j and bool((sizes.min(1) > 1e-14 * sizes.max(1)).all()):
            return np.linalg.solve(upper, right[..., None])[..., 0]
        # A Krylov space that closed, or a singular A: the shortest minimiser.
        return (np.linalg.pinv(upper, rcond=1e-13) @ right[..., None])[..., 0]

    def combine(self, y: np.ndarray) -> Shaped[Tensor, "rhs n"]:
        """``Z y`` for each right-hand side."""
        source = self.basis[:, self.k : self.k + self.j] if self.z is None else self.z[:, : self.j]
        weights = torch.from_numpy(np.ascontiguousarray(y)).to(source)
        combined = torch.bmm(weights[:, None], source)[:, 0]
        return combined if self.z is not None or self.inverse is None else self.inverse(combined)
