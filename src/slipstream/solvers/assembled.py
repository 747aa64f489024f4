"""Trusted references on irregular domains: finite elements of order one and two, assembled by scikit-fem (extra ``[fem]``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from slipstream.errors import InputError, MissingExtra
from slipstream.meshes import Mesh

Field = Callable[[np.ndarray], np.ndarray | float]
"""From coordinates (dim, ...) to values (...), or (dim, ...) where the field is a vector."""


class Assembled:
    """Systems of a steady problem on a mesh, whole and assembled: ``A, b = darcy(...)``, ``u = solve(A, b)``.

    Coefficients and sources are functions of place, so that a finer mesh or a higher order sees the same problem: an error is stated by
    solving on `Mesh.refine` too.

    Parameters
    ----------
    mesh : triangles, quadrilaterals or tetrahedra. order : 1 (error h^2 in L2) or 2 (h^3). vector : whether u has one component an axis.

    References
    ----------
    Gustafsson & McBain, scikit-fem, J. Open Source Softw. 5 (2020) 2369.
    """

    def __init__(self, mesh: Mesh, order: int = 1, vector: bool = False) -> None:
        try:
            import skfem
        except ImportError:
            raise MissingExtra("scikit-fem", "fem", "Finite elements by assembly") from None
        elements = {
            ("triangle", 1): skfem.ElementTriP1,
            ("triangle", 2): skfem.ElementTriP2,
            ("quad", 1): skfem.ElementQuad1,
            ("quad", 2): skfem.ElementQuad2,
            ("tetra", 1): skfem.ElementTetP1,
            ("tetra", 2): skfem.ElementTetP2,
        }
        if (mesh.kind, order) not in elements:
            raise InputError(f"Assembled knows orders 1 and 2; got order={order}.")
        self.mesh, self.order, self.vector = mesh, order, vector
        element = elements[mesh.kind, order]()
        self.basis = skfem.Basis(
            mesh.to_skfem(), skfem.ElementVector(element) if vector else element, intorder=2 * order + 2
        )

    def darcy(self, conductivity: Field, source: Field) -> tuple[Any, np.ndarray]:
        """Matrix and load of ``-div(k grad u) = f``."""
        from skfem import BilinearForm, LinearForm
        from skfem.helpers import dot, grad

        self._kind(vector=False)
        matrix = BilinearForm(lambda u, v, w: conductivity(w.x) * dot(grad(u), grad(v)))
        return matrix.assemble(self.basis), LinearForm(lambda v, w: source(w.x) * v).assemble(self.basis)

    def helmholtz(self, wavenumber: Field, source: Field) -> tuple[Any, np.ndarray]:
        """Matrix and load of ``-laplace(u) - k^2 u = f``."""
        from skfem import BilinearForm, LinearForm
        from skfem.helpers import dot, grad

        self._kind(vector=False)
        matrix = BilinearForm(lambda u, v, w: dot(grad(u), grad(v)) - np.square(wavenumber(w.x)) * u * v)
        return matrix.assemble(self.basis), LinearForm(lambda v, w: source(w.x) * v).assemble(self.basis)

    def elasticity(self, lame_lambda: Field, lame_mu: Field, source: Field) -> tuple[Any, np.ndarray]:
        """Matrix and load of a linear solid (plane strain in 2D)."""
        from skfem import BilinearForm, LinearForm
        from skfem.helpers import ddot, div, dot, sym_grad

        self._kind(vector=True)
        matrix = BilinearForm(
            lambda u, v, w: lame_lambda(w.x) * div(u) * div(v) + 2 * lame_mu(w.x) * ddot(sym_grad(u), sym_grad(v))
        )
        load = LinearForm(lambda v, w: dot(np.asarray(source(w.x)), v))
        return matrix.assemble(self.basis), load.assemble(self.basis)

    def solve(
        self, matrix: Any, load: np.ndarray, given: Field | None = None, fixed: Sequence[str] | None = None
    ) -> np.ndarray:
        """Degrees of freedom of the solution.

        Parameters
        ----------
        given : values where u is fixed, interpolated at the nodes; 0 where None. fixed : names of boundaries; the whole one where None.
        """
        from skfem import condense, solve

        unknown = [n for n in fixed or () if n not in self.mesh.boundaries]
        if unknown:
            raise InputError(f"The mesh has no boundary {unknown}; it has {sorted(self.mesh.boundaries)}.")
        held = self.basis.get_dofs() if fixed is None else self.basis.get_dofs(list(fixed))
        x = np.zeros(self.basis.N) if given is None else self.interpolated(given)
        return solve(*condense(matrix, load, D=held, x=x))

    def interpolated(self, function: Field) -> np.ndarray:
        """Degrees of freedom of the function with the same values at the nodes."""
        places = self.basis.doflocs
        values = np.asarray(function(places), dtype=float)
        if not self.vector:
            return np.broadcast_to(values, self.basis.N).copy()
        # The degrees of a vector element come one axis after the other at each node.
        axis = np.empty(self.basis.N, dtype=int)
        for i in range(self.mesh.num_dims):
            axis[self.basis.get_dofs(elements=True).all(f"u^{i + 1}")] = i
        return values[axis, np.arange(self.basis.N)]

    def at_points(self, u: np.ndarray) -> np.ndarray:
        """Values at the points of the mesh: (point,), or (dim, point) of a vector."""
        values = u[self.basis.nodal_dofs]
        return values if self.vector else values[0]

    def error(self, u: np.ndarray, exact: Field) -> float:
        """Distance from a function, in L2."""
        from skfem import Functional

        def square(w: Any) -> Any:
            difference = np.asarray(w["u"]) - np.asarray(exact(w.x))
            return (difference**2).sum(0) if self.vector else difference**2

        return float(np.sqrt(Functional(square).assemble(self.basis, u=self.basis.interpolate(u))))

    def _kind(self, vector: bool) -> None:
        if self.vector != vector:
            raise InputError(
                f"This problem has a {'vector' if vector else 'scalar'} solution: Assembled(..., vector={vector})."
            )
