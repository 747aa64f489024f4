"""CommonChannels: one stepper for problems that share a list of channels, of which each run has some."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import ShapeError
from slipstream.steppers.multiresolution import Multiresolution
from slipstream.trajectories import Parameters

PRESENT = "present"


class CommonChannels(Multiresolution):
    """`Multiresolution` that leaves alone the channels which a run does not have.

    ``parameters["present"]`` (batch, channel) says which it has: not 0. The others are handed on as they came, to the bit, and so neither
    drift in a rollout nor add to a loss. Without that parameter a run has all channels.

    Parameters
    ----------
    operator, problem, history, horizon, coordinates, statistics, longest : as in `Multiresolution`.

    Raises
    ------
    ShapeError : ``present`` is not of shape (batch, channel).

    References
    ----------
    Herde et al., Poseidon, NeurIPS 2024 (arXiv:2405.19101).
    """

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space"]:
        new = super().forward(past, parameters)
        if PRESENT not in parameters:
            return new
        present = parameters[PRESENT]
        if tuple(present.shape) != (len(past), past.shape[2]):
            raise ShapeError(
                f"CommonChannels expects parameters[{PRESENT!r}] of shape (batch, channel) = {(len(past), past.shape[2])}; "
                f"got {tuple(present.shape)}."
            )
        present = (present != 0).to(past.device).reshape(len(past), 1, -1, *[1] * (past.ndim - 3))
        return torch.where(present, new, past[:, -1:])
