"""Algebraic multigrid, by PyAMG."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from slipstream.errors import MissingExtra
from slipstream.solvers.linear.maps import LinearMap
from slipstream.solvers.linear.method import Correction, Inverse


class AMG(Correction):
    """One cycle of algebraic multigrid an iteration; most at home as ``CG(), preconditioner=AMG()``. Needs the extra ``[amg]``.

    Parameters
    ----------
    smoothed : smoothed aggregation (True), or the classical method of Ruge and Stueben (False; real matrices).
    cycle : ``"V"`` or ``"W"``.

    Raises
    ------
    MissingExtra : PyAMG is not installed.
    """

    def __init__(self, smoothed: bool = True, cycle: str = "V") -> None:
        self.smoothed, self.cycle = smoothed, cycle

    def build(self, A: LinearMap) -> Inverse:
        try:
            import pyamg
        except ImportError as error:
            raise MissingExtra("pyamg", "amg", "AMG") from error
        from scipy.sparse import csr_matrix

        matrix = A.entries("AMG")
        kind = np.complex128 if np.iscomplexobj(matrix.data) else np.float64
        whole = csr_matrix(matrix.astype(kind))
        whole.indices, whole.indptr = whole.indices.astype(np.int32), whole.indptr.astype(np.int32)
        if not self.smoothed:
            hierarchy = pyamg.ruge_stuben_solver(whole)
        else:
            symmetry = "hermitian" if abs(whole - whole.conj().T).max() <= 1e-10 * abs(whole).max() else "nonsymmetric"
            hierarchy = pyamg.smoothed_aggregation_solver(whole, symmetry=symmetry)
        operator = hierarchy.aspreconditioner(cycle=self.cycle)

        def inverse(r: Tensor) -> Tensor:
            given = r.detach().cpu().numpy().astype(kind)
            return torch.from_numpy(np.stack([operator.matvec(row) for row in given])).to(r)

        return inverse
