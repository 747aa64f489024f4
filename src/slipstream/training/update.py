"""Update: how one step changes the parameters. The one extension point of the training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from slipstream.errors import InputError
from slipstream.objectives.objective import Loss, Objective
from slipstream.trajectories import Window

ADAM = partial(torch.optim.Adam, foreach=True)
"""All weights in one call: a stepper of many small networks would spend its time between them otherwise."""


class Update:
    """How one training step changes a module.

    `prepare` is called once with the module; `step` once a training step with the factor that the schedule gives (1 is the full
    learning rate). Adversarial, bilevel, L-BFGS and Jacobian-free updates are subclasses.
    """

    def prepare(self, module: nn.Module) -> None:
        """Make optimisers for the module's parameters."""

    def step(
        self, module: nn.Module, objective: Objective, window: Window, generator: torch.Generator, rate: float
    ) -> Loss:
        """Change the module in place; the loss it saw before the change. `rate` 0 changes nothing."""
        raise TypeError(f"{type(self).__name__} changes nothing: an update defines step(...).")

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            raise InputError(f"{type(self).__name__} keeps no state, but got {sorted(state)}.")


class Descent(Update):
    """One optimiser, gradients clipped to a norm: the default. The norm before clipping is in the log as ``gradient_norm``.

    Parameters
    ----------
    lr : learning rate at its highest.
    optimiser : called with (parameters, lr=); a class of `torch.optim` or a `functools.partial` of one.
    clip : largest gradient norm; None does not clip.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        optimiser: Callable[..., torch.optim.Optimizer] = ADAM,
        clip: float | None = 1.0,
    ) -> None:
        self.lr, self.optimiser, self.clip = lr, optimiser, clip

    def prepare(self, module: nn.Module) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        if not self.parameters:
            raise InputError(f"{type(module).__name__} has no parameters that could be trained.")
        self.optim = self.optimiser(self.parameters, lr=self.lr)

    def highest(self) -> list[float]:
        """The highest learning rate of every group of the optimiser."""
        return [self.lr] * len(self.optim.param_groups)

    def step(
        self, module: nn.Module, objective: Objective, window: Window, generator: torch.Generator, rate: float
    ) -> Loss:
        for group, highest in zip(self.optim.param_groups, self.highest(), strict=True):
            group["lr"] = highest * rate
        self.optim.zero_grad(set_to_none=True)
        loss = objective(module, window, generator)
        loss.total.backward()
        found = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(found, foreach=True)
        if self.clip is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, self.clip, norm, foreach=True)
        self.optim.step()
        return replace(loss, parts={**loss.parts, "gradient_norm": norm})

    def state_dict(self) -> dict[str, Any]:
        return self.optim.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        try:
            self.optim.load_state_dict(state)
        except (KeyError, ValueError, TypeError) as error:
            kind = type(self.optim).__name__
            raise InputError(f"This is not the state of a {kind} of these parameters ({error}).") from None
