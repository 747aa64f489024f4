"""Finetune: descent that begins with the weights of another stepper, and has a learning rate for each part of the operator."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from slipstream.errors import InputError
from slipstream.operators.operator import Operator
from slipstream.pretrained import path_of
from slipstream.stepper import Stepper
from slipstream.training.update import Descent

ADAMW = partial(torch.optim.AdamW, weight_decay=1e-6, foreach=True)
"""Published for fine-tuning."""
EDGES = "edges"
"""Name of the group of parameters that belong to the channels."""


class Finetune(Descent):
    """`Descent` from the weights of a pretrained stepper, with learning rates of their own for edges, normalisations and body.

    The edges (patch embedding and recovery) belong to the channels: they are taken over where pretrained and new stepper have the same
    channels, and stay as they were initialised where not. Everything else is copied. A continued training goes on from its own state.

    Parameters
    ----------
    pretrained : folder that `save_pretrained` wrote; None takes nothing over: the same groups from scratch.
    body, edges, norms : highest learning rates. optimiser, clip : as in `Descent`.
    afresh : whether the edges start afresh even for the same channels.
    allow : packages besides slipstream that the pretrained stepper may come from.

    Raises
    ------
    InputError : (when training begins) a module without one operator that has ``parameter_groups``, or one that differs from the pretrained
        one in more than its channels.
    StoreError : there is no such model, or it is damaged.

    References
    ----------
    Herde et al., Poseidon, NeurIPS 2024 (arXiv:2405.19101).
    """

    def __init__(
        self,
        pretrained: str | os.PathLike | None = None,
        body: float = 5e-5,
        edges: float = 5e-4,
        norms: float = 5e-4,
        optimiser: Callable[..., torch.optim.Optimizer] = ADAMW,
        clip: float | None = 5.0,
        afresh: bool = False,
        allow: Iterable[str] = (),
    ) -> None:
        super().__init__(body, optimiser, clip)
        self.pretrained = None if pretrained is None else os.fspath(pretrained)
        self.body, self.edges, self.norms, self.afresh, self.allow = body, edges, norms, afresh, tuple(allow)

    def prepare(self, module: nn.Module) -> None:
        operator = operator_of(module)
        if self.pretrained is not None:
            take_over(module, Stepper.from_pretrained(self.pretrained, self.allow), self.afresh)
        groups = operator.parameter_groups(self.body, self.edges, self.norms)  # type: ignore[operator]
        seen = {id(p) for group in groups for p in group["params"]}
        rest = [p for p in module.parameters() if id(p) not in seen]  # of the stepper around it
        if rest:
            groups.append({"name": "stepper", "params": rest, "lr": self.body})
        for group in groups:
            group["params"] = [p for p in group["params"] if p.requires_grad]
        groups = [group for group in groups if group["params"]]
        self.parameters = [p for group in groups for p in group["params"]]
        if not self.parameters:
            raise InputError(f"{type(module).__name__} has no parameters that could be trained.")
        self.rates = [group["lr"] for group in groups]
        self.optim = self.optimiser(groups, lr=self.body)

    def highest(self) -> list[float]:
        return self.rates


def operator_of(module: nn.Module) -> Operator:
    """The one operator of a module that tells body, edges and norms apart."""
    found = [m for m in module.modules() if isinstance(m, Operator) and callable(getattr(m, "parameter_groups", None))]
    if len(found) != 1:
        raise InputError(
            f"Fine-tuning needs a module with one operator that has parameter_groups(body, edges, norms), such as ScOT; "
            f"{type(module).__name__} has {len(found)}."
        )
    return found[0]


@torch.no_grad()
def take_over(module: nn.Module, pretrained: nn.Module, afresh: bool = False) -> list[str]:
    """Copy the weights of a pretrained stepper's operator; the names of those that stay as they are.

    These are the edges, if the two steppers differ in their channels (names, or how many the operator sees) or if `afresh` says so.

    Raises
    ------
    InputError : other operators, or weights of other shapes, or lead times that are told in another way.
    """
    new, old = operator_of(module), operator_of(pretrained)
    if type(new) is not type(old):
        raise InputError(f"The pretrained operator is {path_of(type(old))}, the new one {path_of(type(new))}.")
    longest = [getattr(m, "longest", None) for m in (pretrained, module)]
    if longest[0] != longest[1]:
        raise InputError(
            f"The pretrained stepper was told lead times up to {longest[0]} intervals, the new one up to {longest[1]}: the same number "
            f"would mean another time. Build the new one with longest={longest[0]}."
        )
    groups = {group["name"]: group["params"] for group in new.parameter_groups(0.0, 0.0, 0.0)}  # type: ignore[operator]
    of_edges = {id(p) for p in groups[EDGES]}
    edges = {name for name, p in new.named_parameters() if id(p) in of_edges}
    state, given = new.state_dict(), old.state_dict()
    same = _channels(module) == _channels(pretrained) and all(_fits(name, state, given) for name in edges)
    kept = set() if same and not afresh else edges
    wrong = [n for n in sorted(state.keys() | given.keys()) if n not in kept and not _fits(n, state, given)]
    if wrong:
        name = wrong[0]
        shapes = [tuple(s[name].shape) if name in s else "missing" for s in (given, state)]
        raise InputError(
            f"The pretrained operator differs from the new one in more than its channels: {name} is {shapes[0]} there and {shapes[1]} here "
            f"({len(wrong)} such weights). Build the new one with the same arguments, and for problems with as many varying parameters."
        )
    for name, value in state.items():
        if name not in kept:
            value.copy_(given[name])
    return sorted(kept)


def _fits(name: str, one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return name in one and name in other and one[name].shape == other[name].shape


def _channels(module: nn.Module) -> Any:
    """Names of the channels that a stepper has."""
    channels = getattr(module, "channels", None)
    return None if channels is None else tuple(c.name for c in channels)
