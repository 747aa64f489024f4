"""LowPass: a stepper whose frames lose their shortest waves after every call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError
from slipstream.stepper import Stepper
from slipstream.trajectories import Parameters


class LowPass(Stepper):
    """A stepper with the shortest waves of its frames set to zero, so that what collects there does not feed back.

    Waves longer than the limit pass unchanged. Around a `Staggered` with factors s, ``keep = 1 - 1 / s`` takes out the waves in which
    sub-solvers that drift apart differ (a checkerboard with the period of the parts), and so brings them together again.

    Parameters
    ----------
    stepper : a memoryless one (its state is its last frames), on a periodic grid.
    keep : share of the wavenumbers that stay along each axis, one for all or one each; 2/3 is that of dealiased solvers, 1 keeps all.
    """

    passed: Tensor

    def __init__(self, stepper: Stepper, keep: float | Sequence[float] = 2 / 3) -> None:
        super().__init__()
        if stepper.grid is None or not stepper.grid.periodic:
            raise InputError(
                f"LowPass needs a stepper with a periodic grid; {type(stepper).__name__} has {stepper.grid}."
            )
        if type(stepper).advance is not Stepper.advance or type(stepper).start is not Stepper.start:
            raise InputError(
                f"{type(stepper).__name__} keeps a state of its own, which LowPass does not reach. Filter inside it."
            )
        shares = (keep,) * stepper.grid.num_dims if isinstance(keep, (int, float)) else tuple(keep)
        if len(shares) != stepper.grid.num_dims or not all(0 < s <= 1 for s in shares):
            raise InputError(f"LowPass expects shares in (0, 1], one an axis; got keep={keep}.")
        self.stepper, self.keep = stepper, keep
        self.interval, self.history, self.horizon = stepper.interval, stepper.history, stepper.horizon
        self.channels, self.grid, self.starter = stepper.channels, stepper.grid, stepper.starter
        self.problem = getattr(stepper, "problem", None)
        passed = torch.ones((), dtype=torch.bool)
        for k, share, h in zip(stepper.grid.wavenumbers(torch.float64), shares, stepper.grid.spacing, strict=True):
            passed = passed & (k.abs() <= share * torch.pi / h * (1 + 1e-9))
        self.register_buffer("passed", passed, persistent=False)

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space2"]:
        new = self.stepper(past, parameters)
        assert self.grid is not None
        axes = tuple(range(-self.grid.num_dims, 0))
        return torch.fft.irfftn(torch.fft.rfftn(new, dim=axes) * self.passed, s=self.grid.shape, dim=axes)
