"""Deep operator network: what comes in is read once, and asked about at any place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slipstream.errors import InputError, ShapeError
from slipstream.operators.layers import Modulation, check_built, check_input
from slipstream.operators.layers.branches import POOL, Activation, Layers, embed_places, grid_places, read_sensors
from slipstream.operators.operator import Operator


class DeepONet(Operator):
    r"""Deep operator network: :math:`y(p) = \sum_j b_j(x)\, t_j(p)`, a product of a branch, which reads the input field, and a trunk,
    which reads the place.

    The branch reads the field at ``sensors`` cells an axis (means over cells; the values themselves if the grid has as many points),
    so fields on any grid over the same box are accepted. Called without places it answers on the grid of its input; `at` answers at
    any places, also scattered ones, and is differentiable in them. The trunk is evaluated once for all samples.

    The branch makes one token of ``width`` numbers for each output channel, all by one network; so the output channels share a trunk,
    and a last small linear map mixes them.

    Parameters
    ----------
    in_channels, out_channels : channels of the fields.
    num_dims : space axes, 1 to 3.
    hidden_channels : width of branch and trunk.
    n_layers : layers of each.
    sensors : cells that the branch reads along every axis, one number for all axes or one each.
    num_scalars : scalars a sample, which scale and shift every token; without effect at initialisation.
    periodic : whether the answer is periodic along every axis, or along each; exactly so, by what the trunk is shown.
    branch_activation, trunk_activation : ``"gelu"``, ``"tanh"``, ``"silu"``, ``"tanh_sin"``, ``"silu_sin"`` or ``"silu_id"``.

    References
    ----------
    Lu, Jin, Pang, Zhang & Karniadakis, Nature Machine Intelligence 3 (2021) 218-229 (arXiv:1910.03193).
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        num_dims: int = 2,
        hidden_channels: int = 100,
        n_layers: int = 5,
        sensors: int | Sequence[int] = 16,
        num_scalars: int = 0,
        periodic: bool | Sequence[bool] = False,
        branch_activation: Activation = "gelu",
        trunk_activation: Activation = "gelu",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if num_dims not in POOL:
            raise InputError(f"{name} got num_dims={num_dims}; expected 1, 2 or 3 axes.")
        self.sensors = (sensors,) * num_dims if isinstance(sensors, int) else tuple(sensors)
        self.periodic = (periodic,) * num_dims if isinstance(periodic, bool) else tuple(periodic)
        if len(self.sensors) != num_dims or len(self.periodic) != num_dims:
            raise InputError(
                f"{name} got sensors={self.sensors} and periodic={self.periodic} for {num_dims} axes; expected one of each an axis."
            )
        check_built(
            self,
            in_channels=in_channels,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
            n_layers=n_layers,
            sensors=min(self.sensors),
        )
        self.in_channels, self.out_channels, self.num_dims = in_channels, out_channels, num_dims
        self.hidden_channels, self.n_layers, self.num_scalars = hidden_channels, n_layers, num_scalars
        self.branch_activation, self.trunk_activation = branch_activation, trunk_activation
        self.enter = nn.Linear(in_channels * math.prod(self.sensors), out_channels * hidden_channels)
        self.branch = Layers(hidden_channels, hidden_channels, n_layers, branch_activation)
        self.trunk = Layers(num_dims + sum(self.periodic), hidden_channels, n_layers, trunk_activation)
        self.modulation = Modulation(num_scalars, hidden_channels) if num_scalars else None
        self.leave = nn.Linear(out_channels, out_channels)

    def forward(
        self, x: Float[Tensor, "batch in_channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        """The answer on the grid of the input.

        Raises
        ------
        ShapeError : channels, axes or scalars are not those that the operator was built for.
        """
        y = self.at(x, grid_places(x, self.periodic) if x.ndim == 2 + self.num_dims else x.new_zeros(0), scalars)
        return y.unflatten(2, x.shape[2:])

    def at(
        self,
        x: Float[Tensor, "batch in_channels *space"],
        points: Float[Tensor, "*rest"],
        scalars: Float[Tensor, "batch num_scalars"] | None = None,
    ) -> Float[Tensor, "batch out_channels point"]:
        """The answer at places of the caller's choice.

        Parameters
        ----------
        points : (point, num_dims), the same for all samples, or (batch, point, num_dims); in the unit box, that is, each axis from 0 to 1.

        Raises
        ------
        ShapeError : as when called, or `points` have another shape.
        """
        if not torch.compiler.is_compiling():
            check_input(self, x, scalars, self.in_channels, self.num_dims, self.num_scalars)
            _check_points(self, points, x.shape[0])
        tokens = self.enter(read_sensors(x, self.sensors)).unflatten(1, (self.out_channels, -1))
        if self.modulation is not None and scalars is not None:
            tokens = self.modulation(tokens.transpose(1, 2), scalars).transpose(1, 2)
        products = self._combine(self.branch(tokens), self.trunk(embed_places(points, self.periodic)))
        return self.leave(products.transpose(1, 2)).transpose(1, 2)

    def _combine(self, branch: list[Tensor], trunk: list[Tensor]) -> Float[Tensor, "batch token point"]:
        """What branch and trunk say together."""
        return branch[-1] @ trunk[-1].transpose(-2, -1)


def _check_points(owner: DeepONet, points: Tensor, batch: int) -> None:
    if points.ndim not in (2, 3) or points.shape[-1] != owner.num_dims or (points.ndim == 3 and len(points) != batch):
        raise ShapeError(
            f"{type(owner).__name__} expects points of shape (point, {owner.num_dims}) or ({batch}, point, {owner.num_dims}) because "
            f"num_dims={owner.num_dims}; got {tuple(points.shape)}. Coordinates come last, scaled to the unit box."
        )
