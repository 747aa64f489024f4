"""Graph kernel network: integrals over balls with a learnt kernel, also where points are scattered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from slipstream.errors import InputError
from slipstream.operators.layers import Modulation, check_built, check_input
from slipstream.operators.layers.neighbours import Neighbours, PairFeatures, check_points, grid_neighbours
from slipstream.operators.operator import Operator

Kernel = Literal["full", "diagonal"]


class IntegralLayer(nn.Module):
    r""":math:`v_i \leftarrow W v_i + b + \sum_j w_{ij}\, \kappa(x_j - x_i, a_i, a_j)\, v_j`; tensors are (point, batch, channel).

    The kernel is linear in its last hidden features g. Full: :math:`\kappa = \sum_k g_k K_k` with matrices :math:`K_k`; the sum over
    neighbours is taken first, of :math:`g_k v_j`, and the matrices are applied once a point instead of once an edge.

    Parameters
    ----------
    channels, kernel, kernel_channels, num_scalars : as in `KernelIntegral`. fields : channels of a, or 0. num_dims : of the offsets.
    """

    def __init__(
        self, channels: int, kernel: Kernel, kernel_channels: int, fields: int, num_dims: int, num_scalars: int
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.pairs = PairFeatures(fields, 0, num_dims, 2 * kernel_channels)
        self.hidden = nn.Linear(2 * kernel_channels, kernel_channels)
        size = channels * channels if kernel == "full" else channels
        self.matrices = nn.Parameter(torch.randn(kernel_channels, size) * (kernel_channels * size / channels) ** -0.5)
        self.linear = nn.Linear(channels, channels)
        self.modulation = Modulation(num_scalars, channels) if num_scalars else None

    def forward(
        self,
        v: Float[Tensor, "point batch channels"],
        a: Float[Tensor, "point batch fields"],
        neighbours: Neighbours,
        scalars: Float[Tensor, "batch num_scalars"] | None = None,
    ) -> Float[Tensor, "point batch channels"]:
        y = self.linear(v) + self.integral(v, a, neighbours)
        if self.modulation is not None and scalars is not None:
            y = self.modulation(y.permute(1, 2, 0), scalars).permute(2, 0, 1)
        return y

    def integral(self, v: Tensor, a: Tensor, neighbours: Neighbours) -> Tensor:
        g = F.gelu(self.hidden(F.gelu(self.pairs(a, a, neighbours))))
        sent = v.index_select(0, neighbours.sender)
        if self.kernel == "diagonal":
            return neighbours.mean((g @ self.matrices) * sent)
        moments = neighbours.mean(g[..., :, None] * sent[..., None, :])  # (point, batch, kernel channel, channel)
        matrices = self.matrices.unflatten(1, (sent.shape[-1], -1)).flatten(0, 1)  # (kernel channel x channel, channel)
        return moments.flatten(-2) @ matrices


class KernelIntegral(Operator):
    r"""Graph kernel network (graph neural operator): layers :math:`v \leftarrow \sigma(W v + b + \int_{|y - x| < r} \kappa\, v\, dy)`.

    The kernel is a small network of the offset and, as published, of the input fields at both its ends. The integral is a mean over the
    ball, weighted towards its middle where `taper` is on: then it converges as points are added (high order on grids), and the answer
    changes smoothly as points move in and out. So a network may be used on other points than it was trained on.

    Works on scattered points (`on_points`, with a list from `find_neighbours` in the unit box, ``with_self=True`` and the same radius,
    `taper` and the cells' `volumes`), and, called as any operator, on uniform grids over the unit box. It sees offsets, never places:
    renumbered points, reordered neighbours and a moved origin change nothing; on periodic grids it commutes with every shift.

    Memory: batch x edges x kernel_channels x hidden_channels numbers a layer (``kernel="diagonal"``: batch x edges x hidden_channels).

    Parameters
    ----------
    in_channels, out_channels : channels of the fields.
    num_dims : space axes, 1 to 3.
    hidden_channels : width.
    n_layers : integral layers.
    radius : of the ball, in units of the box; on grids it should hold at least some points an axis.
    num_scalars : scalars a sample, which scale and shift every layer; without effect at initialisation.
    periodic : on grids, whether all axes, or each, have no ends. At an end the ball is cut off.
    kernel : ``"full"``: a matrix between the channels for every pair of points; ``"diagonal"``: a number a channel.
    kernel_channels : features that the kernel is a linear function of.
    sees_fields : whether the kernel depends on the input fields; without, every layer is linear in them up to the nonlinearity.
    taper : whether the weight in the ball falls to zero towards its surface.

    References
    ----------
    Li et al., Neural Operator: Graph Kernel Network for PDEs (arXiv:2003.03485); Kovachki et al., JMLR 24 (2023).
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        num_dims: int = 2,
        hidden_channels: int = 32,
        n_layers: int = 4,
        radius: float = 0.1,
        num_scalars: int = 0,
        periodic: bool | Sequence[bool] = True,
        kernel: Kernel = "full",
        kernel_channels: int = 8,
        sees_fields: bool = True,
        taper: bool = True,
    ) -> None:
        super().__init__()
        self.periodic = (periodic,) * num_dims if isinstance(periodic, bool) else tuple(periodic)
        if not 1 <= num_dims <= 3 or len(self.periodic) != num_dims or not 0 < radius < 0.5:
            raise InputError(
                f"KernelIntegral got num_dims={num_dims}, periodic={self.periodic}, radius={radius}; expected 1, 2 or 3 axes, one entry of "
                "periodic an axis, and a radius between 0 and half the box."
            )
        if kernel not in get_args(Kernel):
            raise InputError(f"KernelIntegral has the kernels 'full' and 'diagonal', not {kernel!r}.")
        check_built(
            self,
            in_channels=in_channels,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
            n_layers=n_layers,
            kernel_channels=kernel_channels,
        )
        self.in_channels, self.out_channels, self.num_dims = in_channels, out_channels, num_dims
        self.hidden_channels, self.n_layers, self.radius = hidden_channels, n_layers, radius
        self.num_scalars, self.kernel, self.kernel_channels = num_scalars, kernel, kernel_channels
        self.sees_fields, self.taper = sees_fields, taper
        h = hidden_channels
        self.lifting = nn.Sequential(nn.Linear(in_channels, 2 * h), nn.GELU(), nn.Linear(2 * h, h))
        fields = in_channels if sees_fields else 0
        self.layers = nn.ModuleList(
            IntegralLayer(h, kernel, kernel_channels, fields, num_dims, num_scalars) for _ in range(n_layers)
        )
        self.projection = nn.Sequential(nn.Linear(h, 2 * h), nn.GELU(), nn.Linear(2 * h, out_channels))

    def forward(
        self, x: Float[Tensor, "batch in_channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        """Fields on a uniform grid over the unit box, fine enough that the ball holds neighbours.

        Raises
        ------
        ShapeError : channels, axes or scalars are not those that the operator was built for, or the grid is too coarse.
        """
        if not torch.compiler.is_compiling():
            check_input(self, x, scalars, self.in_channels, self.num_dims, self.num_scalars)
        spacing = [1 / n for n in x.shape[2:]]
        near = grid_neighbours(x.shape[2:], spacing, self.radius, self.periodic, x, with_self=True, taper=self.taper)
        return self._integrate(x.flatten(2), near, scalars).unflatten(2, x.shape[2:])

    def on_points(
        self,
        x: Float[Tensor, "batch in_channels point"],
        neighbours: Neighbours,
        scalars: Float[Tensor, "batch num_scalars"] | None = None,
    ) -> Float[Tensor, "batch out_channels point"]:
        """Values at scattered points, the same points for all samples.

        Raises
        ------
        ShapeError : channels or scalars are not those that the operator was built for.
        InputError : the neighbours are those of another number of points.
        """
        if not torch.compiler.is_compiling():
            check_points(self, x, neighbours, scalars, self.in_channels, self.num_dims, self.num_scalars)
        return self._integrate(x, neighbours.to(x), scalars)

    def _integrate(self, x: Tensor, neighbours: Neighbours, scalars: Tensor | None) -> Tensor:
        a = x.permute(2, 0, 1)
        v = self.lifting(a)
        for i, layer in enumerate(self.layers):
            v = layer(v, a, neighbours, scalars)
            if i < self.n_layers - 1:
                v = F.gelu(v)
        return self.projection(v).permute(1, 2, 0)
