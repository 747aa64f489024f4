"""Affine: the best linear map from conditions to a steady field."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel, as_channels
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.stepper import Stepper
from slipstream.trajectories import Parameters, Trajectories


class Affine(Stepper):
    r"""``u = c + B p``: a steady field as an affine function of all conditions p, with B of low rank, fitted by `Affine.of`.

    What a network has to beat on steady problems. Rank 0 is the mean of the known answers, whatever the conditions.

    Parameters
    ----------
    grid, channels : of the field. names : of the conditions, in order. size : how many numbers they are together. rank : of B.
    """

    history = 0
    interval = 0.0
    grid: Grid
    channels: tuple[Channel, ...]
    centre: Tensor
    into: Tensor
    onto: Tensor
    constant: Tensor

    def __init__(
        self, grid: Grid, channels: Sequence[Channel | str], names: Sequence[str], size: int, rank: int
    ) -> None:
        super().__init__()
        self.grid, self.channels, self.names, self.size, self.rank = (
            grid,
            as_channels(channels),
            tuple(names),
            size,
            rank,
        )
        values = len(self.channels) * grid.size
        if not 0 <= rank <= size:
            raise InputError(f"Affine expects a rank from 0 to the {size} numbers of a condition; got {rank}.")
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("into", torch.zeros(size, rank))
        self.register_buffer("onto", torch.zeros(values, rank))
        self.register_buffer("constant", torch.zeros(values))

    @classmethod
    def of(cls, data: Trajectories, rank: int) -> Affine:
        """Least squares on all cases (float64 inside), on the `rank` directions along which the conditions vary most.

        A rank beyond what the cases tell apart is lowered to that.

        Raises
        ------
        InputError : no conditions, or fields of more than one frame.
        """
        if data.steps != 1 or not data.parameters:
            raise InputError(
                f"Affine learns steady fields from conditions; the data have {data.steps} frames and {len(data.parameters)} conditions."
            )
        names = sorted(data.parameters)
        x = _flat(data.parameters, names)
        y = data.frames[:, 0].double().flatten(1)
        centre, constant = x.mean(0), y.mean(0)
        # Conditions of unlike units count alike: each parameter is scaled by its own spread.
        left, size, right = torch.linalg.svd((x - centre) / _spread(data.parameters, names, x), full_matrices=False)
        told = int((size > 1e-10 * size.max().clamp(min=1e-300)).sum()) if float(size.max()) > 0 else 0
        model = cls(data.grid, data.channels, names, x.shape[1], min(rank, told)).double()
        k = model.rank
        model.centre.copy_(centre)
        model.into.copy_(right[:k].mT / _spread(data.parameters, names, x)[:, None])
        model.onto.copy_((y - constant).mT @ left[:, :k] / size[:k])
        model.constant.copy_(constant)
        return model.to(data.frames.dtype)

    def check(self, frames: Tensor) -> None:
        """Steady maps look at parameters alone."""

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space2"]:
        missing = [n for n in self.names if n not in parameters]
        if missing:
            raise InputError(f"Affine needs the conditions {missing}; the parameters given are {sorted(parameters)}.")
        x = torch.cat([parameters[n].to(self.centre).reshape(len(parameters[n]), -1) for n in self.names], dim=1)
        y = self.constant + ((x - self.centre) @ self.into) @ self.onto.mT
        return y.reshape(len(x), 1, len(self.channels), *self.grid.shape)


def _flat(parameters: Parameters, names: Sequence[str]) -> Float[Tensor, "run size"]:
    return torch.cat([parameters[n].double().reshape(len(parameters[n]), -1) for n in names], dim=1)


def _spread(parameters: Parameters, names: Sequence[str], x: Tensor) -> Float[Tensor, " size"]:
    sizes = [parameters[n][0].numel() for n in names]
    spread = torch.stack([part.std(correction=0).clamp(min=1e-12) for part in x.split(sizes, dim=1)])
    return spread.repeat_interleave(torch.tensor(sizes))
