"""EMA: the exponential moving average of a module's parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from slipstream.errors import InputError


class EMA:
    """Averages a module's parameters over the last ~ 1 / (1 - decay) steps.

    The average is usually better than the last weights, and it is what the module holds when training ends. Early on the decay is
    (1 + n) / (10 + n) after n steps, so that the random start is forgotten quickly. Buffers are not averaged.

    Parameters
    ----------
    decay : weight of the past in each step, in [0, 1).
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"EMA takes 0 <= decay < 1; got {decay}.")
        self.decay = decay

    def prepare(self, module: nn.Module) -> None:
        """Start a new average from the module's present parameters."""
        self.steps = 0
        self.names = [name for name, p in module.named_parameters() if p.is_floating_point() or p.is_complex()]
        of = dict(module.named_parameters())
        self.live = [of[name].detach() for name in self.names]
        self.mean = [p.clone() for p in self.live]

    @torch.no_grad()
    def step(self) -> None:
        """Take the module's present parameters into the average."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.mean, self.live, 1 - decay)

    @torch.no_grad()
    def copy_to_module(self) -> None:
        """Replace the module's parameters by the average."""
        torch._foreach_copy_(self.live, self.mean)

    @contextmanager
    def worn(self) -> Iterator[None]:
        """Within the block the module holds the average; afterwards its own parameters again, to the bit."""
        own = [p.clone() for p in self.live]
        self.copy_to_module()
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.live, own)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "mean": dict(zip(self.names, self.mean, strict=True))}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["mean"].keys() != set(self.names):
            raise InputError(
                f"The saved average has other parameters than the module: {sorted(state['mean'].keys() ^ set(self.names))[:5]} differ."
            )
        self.steps = state["steps"]
        for name, mean in zip(self.names, self.mean, strict=True):
            mean.copy_(state["mean"][name])
