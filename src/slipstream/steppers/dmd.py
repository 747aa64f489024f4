"""Dynamic mode decomposition: the linear map that best advances the frames, on the modes that carry them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from slipstream.channels import Channel, as_channels
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.stepper import Stepper
from slipstream.trajectories import Parameters, Trajectories


class DMD(Stepper):
    r"""``u_{n+1} = A u_n`` with A of low rank: exact DMD, fitted by `DMD.of`.

    What a learnt stepper has to beat on near-linear dynamics (decay, waves, oscillation about a steady state). It ignores parameters:
    one A for all runs that it was fitted to.

    Parameters
    ----------
    grid, interval, channels : of the frames. rank : of A.

    References
    ----------
    Tu et al., J. Comput. Dyn. 1 (2014) 391.
    """

    into: Tensor
    onto: Tensor
    grid: Grid
    channels: tuple[Channel, ...]

    def __init__(self, grid: Grid, interval: float, channels: Sequence[Channel | str], rank: int) -> None:
        super().__init__()
        self.grid, self.interval, self.channels, self.rank = grid, float(interval), as_channels(channels), rank
        size = len(self.channels) * grid.size
        if not 1 <= rank <= size:
            raise InputError(f"DMD expects a rank between 1 and the {size} values of a frame; got {rank}.")
        self.register_buffer("into", torch.zeros(size, rank))
        self.register_buffer("onto", torch.zeros(size, rank))

    @classmethod
    def of(cls, data: Trajectories, rank: int | None = None, energy: float = 0.9999) -> DMD:
        """Fitted to all pairs of consecutive frames (float64 inside).

        Parameters
        ----------
        rank : of A; where None the smallest that keeps this share of the `energy` (squares, weighted by the grid's cells).

        Raises
        ------
        InputError : a single frame a run, or non-finite frames.
        """
        if data.steps < 2:
            raise InputError(f"DMD learns from pairs of frames; the data have {data.steps} a run.")
        frames = data.frames.double()
        if not bool(torch.isfinite(frames).all()):
            raise InputError("DMD got non-finite frames; leave these runs out.")
        root = data.grid.cell_weights(torch.float64).sqrt().expand(len(data.channels), *data.grid.shape).flatten()
        before = frames[:, :-1].flatten(0, 1).flatten(1) * root
        after = frames[:, 1:].flatten(0, 1).flatten(1) * root
        left, size, right = torch.linalg.svd(before.mT, full_matrices=False)
        if rank is None:
            share = size.square().cumsum(0) / size.square().sum()
            rank = int((share < energy).sum()) + 1
        rank = min(rank, int((size > 1e-12 * size[0]).sum()))
        model = cls(data.grid, data.interval, data.channels, rank).double()
        model.into.copy_(left[:, :rank] * root[:, None])
        model.onto.copy_((after.mT @ right[:rank].mT / size[:rank]) / root[:, None])
        return model.to(data.frames.dtype)

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space"]:
        u = past[:, -1]
        return ((u.flatten(1) @ self.into) @ self.onto.mT).reshape(u.shape)[:, None]

    @property
    def rates(self) -> Complex[Tensor, " rank"]:
        """Growth rate + i frequency (per unit of time) of each mode, slowest decay first."""
        values = torch.linalg.eigvals((self.into.mT @ self.onto).double())
        return (values.log() / self.interval)[values.abs().argsort(descending=True)]
