"""Harmonic Ritz vectors: what a Krylov space knows of the eigenvectors that slow the iteration down."""

from __future__ import annotations

import numpy as np


def harmonic_ritz(G: np.ndarray, T: np.ndarray, count: int) -> np.ndarray:
    r"""Orthonormal columns that span the `count` harmonic Ritz vectors of smallest value, in the coordinates of the search space.

    For an operator with :math:`A \hat V = \hat W G`, W orthonormal, the pairs are those of
    :math:`G^H G z = \theta\, G^H (\hat W^H \hat V) z`. They are found as the largest :math:`1/\theta` of :math:`G^+ T`, which spares
    the squared condition number and a generalised eigenproblem.

    For a real problem the result is real: a complex pair enters as its real and imaginary part, together or not at all, so there may be
    one column fewer than was asked for.

    Parameters
    ----------
    G : (rows, columns), full column rank. T : (rows, columns), ``W^H V``. count : how many are wanted.

    Source: Parks et al., SIAM J. Sci. Comput. 28 (2006) 1651.
    """
    values, vectors = np.linalg.eig(np.linalg.lstsq(G, T, rcond=None)[0])
    order = np.argsort(-np.abs(values), kind="stable")
    if np.iscomplexobj(G):
        chosen = vectors[:, order[:count]]
    else:
        columns: list[np.ndarray] = []
        for i in order:
            if values[i].imag == 0:
                columns.append(vectors[:, i].real)
            elif values[i].imag > 0:
                columns += [vectors[:, i].real, vectors[:, i].imag]
            if len(columns) >= count:
                break
        if len(columns) > count:
            columns = columns[: count - 1]
        chosen = np.stack(columns, axis=1) if columns else np.zeros((G.shape[1], 0))
    return np.linalg.qr(chosen)[0]
