"""Tables with multilinear interpolation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError
from slipstream.operators.law import PointwiseLaw


class TableLaw(PointwiseLaw):
    """Values at the nodes of a regular table over a box, multilinear between; beyond the box, those of its edge.

    Parameters
    ----------
    inputs, outputs : numbers of each. num_points : nodes along each input, one number or one each.
    """

    table: Tensor

    def __init__(self, inputs: int = 5, outputs: int = 2, num_points: int | Sequence[int] = 8) -> None:
        super().__init__(inputs, outputs)
        self.num_points = num_points
        self.shape = (num_points,) * inputs if isinstance(num_points, int) else tuple(num_points)
        if len(self.shape) != inputs or min(self.shape) < 2:
            raise InputError(f"TableLaw expects at least 2 nodes along each of {inputs} inputs; got {num_points}.")
        self.register_buffer("table", torch.zeros(prod(self.shape), outputs))

    def nodes(self, low: Float[Tensor, " inputs"], high: Float[Tensor, " inputs"]) -> Float[Tensor, "node inputs"]:
        """Where a table over this box wants to know the values."""
        axes = [torch.linspace(0, 1, n, dtype=low.dtype) for n in self.shape]
        return low + (high - low) * torch.cartesian_prod(*axes).reshape(-1, self.inputs)

    def fill(
        self,
        function: Callable[[Tensor], Tensor],
        low: Float[Tensor, " inputs"],
        high: Float[Tensor, " inputs"],
    ) -> TableLaw:
        """Ask a function at every node of a table over this box. Returns itself."""
        x = self.nodes(low, high)
        y = function(x)
        self._samples(x, y)
        self.table.copy_(y)
        return self

    def fit(self, x: Float[Tensor, "sample inputs"], y: Float[Tensor, "sample outputs"]) -> TableLaw:
        """Least squares from scattered samples; nodes that no sample reaches get the mean (smallest departure from it)."""
        from scipy.sparse import csr_matrix
        from scipy.sparse.linalg import lsqr

        self._samples(x, y)
        kept = self.table.dtype
        self.double()
        index, weight = self._corners(x.double())
        rows = np.repeat(np.arange(len(x)), index.shape[1])
        matrix = csr_matrix((weight.numpy().ravel(), (rows, index.numpy().ravel())), shape=(len(x), len(self.table)))
        mean = y.double().mean(0)
        for i, column in enumerate((y.double() - mean).T.numpy()):
            self.table[:, i] = mean[i] + torch.from_numpy(
                lsqr(matrix, column, atol=1e-13, btol=1e-13, iter_lim=5000)[0]
            )
        self.to(kept)
        return self

    def forward(self, x: Float[Tensor, "point inputs"]) -> Float[Tensor, "point outputs"]:
        self._check(x)
        index, weight = self._corners(x)
        return (weight[..., None] * self.table[index]).sum(1)

    def _corners(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The 2^inputs nodes around each point, and their weights."""
        last = torch.tensor([n - 1 for n in self.shape], device=x.device)
        low, high = self.box()
        place = ((x - low) / (high - low).clamp(min=1e-12)).clamp(0, 1) * last
        cell = torch.minimum(place.detach().floor().long(), last - 1)
        share = place - cell
        index = torch.zeros(len(x), 1, dtype=torch.long, device=x.device)
        weight = torch.ones_like(share[:, :1])
        for i, n in enumerate(self.shape):
            index = (index * n + cell[:, i : i + 1])[:, :, None] + torch.arange(2, device=x.device)
            both = torch.stack([1 - share[:, i], share[:, i]], dim=-1)
            weight = weight[:, :, None] * both[:, None]
            index, weight = index.flatten(1), weight.flatten(1)
        return index, weight
