"""Finite elements on the nodes of a box: their matrices on fields, and the classical stepper that solves with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.grids import resample
from slipstream.solvers.elements import Elements
from slipstream.solvers.steady import LinearStepper
from slipstream.trajectories import Parameters


class NodalMatrix:
    r"""The matrices of elements on fields (run, channel, \*nodes), one a run: what ``A`` is in ``A u = b``.

    Where u is held, rows and columns are a multiple of the identity. So A is symmetric, positive where the form is, and ``A u - b`` with
    b = 0 there vanishes for solutions that are 0 there. `slipstream.solvers.linear.solve` takes it as it is.

    Parameters
    ----------
    elements : on a mesh whose points are the nodes of a box, the last axis running fastest. parameters : coefficients (run, cell).
    nodes : along each axis.
    """

    hermitian = True

    def __init__(self, elements: Elements, parameters: Parameters, nodes: Sequence[int]) -> None:
        self.elements = elements
        self.parameters = {k: parameters[k] for k in elements.form.coefficients}
        self.space = (elements.channels, *nodes)
        first = self.parameters[elements.form.coefficients[0]]
        self.batch, self.dtype = len(first), first.dtype

    def __len__(self) -> int:
        return self.batch

    def __getitem__(self, i: int | slice) -> NodalMatrix:
        """The matrix of one run, or of some."""
        rows = slice(i, i + 1 or None) if isinstance(i, int) else i
        return NodalMatrix(self.elements, {k: v[rows] for k, v in self.parameters.items()}, self.space[1:])

    @property
    def held(self) -> Float[Tensor, " run"]:
        """What stands on the diagonal where u is held: of the size of the other entries."""
        return self.parameters[self.elements.form.coefficients[-1]].mean(1)

    def __call__(self, v: Float[Tensor, "run channel *space"]) -> Float[Tensor, "run channel *space"]:
        u, free = v.flatten(2), self.elements.free.to(v)
        left = self.elements.residual(free * u, self.parameters)
        return (left + self.held[:, None, None] * (1 - free) * u).reshape(v.shape)

    def matrix(self, i: int = 0):
        """The matrix of one run as `scipy.sparse.csr_array`, on flattened fields."""
        from scipy.sparse import csr_array, diags_array

        points, channels = self.elements.mesh.size, self.elements.channels
        free = self.elements.free.repeat(channels).double().numpy()
        order = torch.arange(points * channels).reshape(points, channels).T.flatten().numpy()
        whole = self.elements.matrix(self.parameters, i)[order][:, order]
        inside = diags_array(free)
        made = csr_array(inside @ whole @ inside + diags_array(float(self.held[i].detach()) * (1 - free)))
        made.eliminate_zeros()
        return made


class NodalStepper(LinearStepper):
    r"""Solves ``A(p) u = b(p)`` on the nodes of a box, run by run; the frame holds u at the nodes of `grid`.

    Between nodes u is linear along each axis, as bilinear elements say. Otherwise, and in its arguments, a `LinearStepper`, with a `system`
    of `NodalMatrix` and right-hand sides (run, channel, \*nodes); `grid` and `inner` have points on their ends.
    """

    def _solved(self, systems: tuple[NodalMatrix, Tensor]) -> tuple[Tensor, tuple[int, ...]]:  # type: ignore[override]
        A, b = systems
        return self._in_pieces(A, b, [slice(i, i + 1) for i in range(len(A))])

    def _carried(self, u: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch2"]:
        return resample(u, self.inner, self.grid)
