"""Message passing: neighbours talk, also where points are scattered."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from slipstream.errors import InputError
from slipstream.operators.layers import Modulation, check_built, check_input
from slipstream.operators.layers.neighbours import Neighbours, PairFeatures, check_points, grid_neighbours
from slipstream.operators.operator import Operator


class MessageLayer(nn.Module):
    r"""One round: messages :math:`m_{ij} = \phi(h_i, h_j, u_i - u_j, x_j - x_i)`, then the update

    .. math:: h_i \leftarrow \mathrm{norm}(h_i + \psi(h_i, \bar m_i)).

    Tensors are (point, batch, channel). The normalisation is over the channels of a point, so that news travel no faster than messages.

    Parameters
    ----------
    channels, num_scalars : as in `MessagePassing`. values : channels of u, or 0. num_dims : of the offsets, or 0.
    """

    def __init__(self, channels: int, values: int, num_dims: int, num_scalars: int) -> None:
        super().__init__()
        self.pairs = PairFeatures(channels, values, num_dims, channels)
        self.message = nn.Linear(channels, channels)
        self.state, self.heard = nn.Linear(channels, channels), nn.Linear(channels, channels, bias=False)
        self.update = nn.Linear(channels, channels)
        self.modulation = Modulation(num_scalars, channels) if num_scalars else None
        self.norm = nn.LayerNorm(channels)

    def forward(
        self,
        h: Float[Tensor, "point batch channels"],
        u: Float[Tensor, "point batch values"],
        neighbours: Neighbours,
        scalars: Float[Tensor, "batch num_scalars"] | None = None,
    ) -> Float[Tensor, "point batch channels"]:
        heard = neighbours.mean(F.silu(self.message(F.silu(self.pairs(h, u, neighbours)))))
        y = self.state(h) + self.heard(heard)
        if self.modulation is not None and scalars is not None:
            y = self.modulation(y.permute(1, 2, 0), scalars).permute(2, 0, 1)
        return self.norm(h + F.silu(self.update(F.silu(y))))


class MessagePassing(Operator):
    """A message-passing network: points tell their neighbours what they hold and how they lie to each other, round after round.

    Works on scattered points (`on_points`, with a list from `find_neighbours`) and, called as any operator, on uniform grids, where the
    neighbours are the points within `reach` spacings. It sees offsets, never places: the answer does not depend on where the origin is,
    how points are numbered, or in what order neighbours are listed; on periodic grids it commutes with every shift. After n rounds a
    point has heard from as far as n times the radius, no farther.

    It knows neighbours, not distances in metres: offsets are scaled by the radius, so a network belongs to the spacing it was trained on.

    Good values: 64 to 128 hidden channels, 6 rounds, 6 to 35 neighbours. On a CPU a round costs about as much as a convolution with
    as many taps as there are neighbours.

    Parameters
    ----------
    in_channels, out_channels : channels of the fields.
    num_dims : space axes, 1 to 3.
    hidden_channels : width of states and messages.
    n_layers : rounds, each with parameters of its own.
    reach : on grids, how far neighbours are, in spacings (1.5 takes in the diagonal ones).
    num_scalars : scalars a sample, which scale and shift every update; without effect at initialisation.
    periodic : on grids, whether all axes, or each, have no ends. At an end there are fewer neighbours.
    differences : whether messages see the differences of the input fields.
    offsets : whether messages see where the neighbour lies.

    References
    ----------
    Brandstetter, Worrall & Welling, ICLR 2022 (arXiv:2202.03376); there with norms over all points of a sample.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        num_dims: int = 2,
        hidden_channels: int = 64,
        n_layers: int = 6,
        reach: float = 1.5,
        num_scalars: int = 0,
        periodic: bool | Sequence[bool] = True,
        differences: bool = True,
        offsets: bool = True,
    ) -> None:
        super().__init__()
        self.periodic = (periodic,) * num_dims if isinstance(periodic, bool) else tuple(periodic)
        if not 1 <= num_dims <= 3 or len(self.periodic) != num_dims or reach < 1:
            raise InputError(
                f"MessagePassing got num_dims={num_dims}, periodic={self.periodic}, reach={reach}; expected 1, 2 or 3 axes, one entry of "
                "periodic an axis, and a reach of at least 1 spacing."
            )
        check_built(
            self, in_channels=in_channels, out_channels=out_channels, hidden_channels=hidden_channels, n_layers=n_layers
        )
        self.in_channels, self.out_channels, self.num_dims = in_channels, out_channels, num_dims
        self.hidden_channels, self.n_layers, self.reach, self.num_scalars = (
            hidden_channels,
            n_layers,
            reach,
            num_scalars,
        )
        self.differences, self.offsets = differences, offsets
        h = hidden_channels
        self.encoder = nn.Sequential(nn.Linear(in_channels, h), nn.SiLU(), nn.Linear(h, h), nn.SiLU())
        self.layers = nn.ModuleList(
            MessageLayer(h, in_channels if differences else 0, num_dims if offsets else 0, num_scalars)
            for _ in range(n_layers)
        )
        self.decoder = nn.Sequential(nn.Linear(h, h), nn.SiLU(), nn.Linear(h, out_channels))

    def forward(
        self, x: Float[Tensor, "batch in_channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        """Fields on a uniform grid of any number of points that `reach` does not go half way round.

        Raises
        ------
        ShapeError : channels, axes or scalars are not those that the operator was built for, or the grid is too small.
        """
        if not torch.compiler.is_compiling():
            check_input(self, x, scalars, self.in_channels, self.num_dims, self.num_scalars)
        near = grid_neighbours(x.shape[2:], (1.0,) * self.num_dims, self.reach, self.periodic, x)
        return self._pass(x.flatten(2), near, scalars).unflatten(2, x.shape[2:])

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
        return self._pass(x, neighbours.to(x), scalars)

    def _pass(self, x: Tensor, neighbours: Neighbours, scalars: Tensor | None) -> Tensor:
        u = x.permute(2, 0, 1)
        h = self.encoder(u)
        for layer in self.layers:
            h = layer(h, u, neighbours, scalars)
        return self.decoder(h).permute(1, 2, 0)
