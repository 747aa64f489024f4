"""Accelerated: a stepper whose operators have been made cheaper."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slipstream.compression.transform import Transform, Unsuitable, ordered
from slipstream.errors import InputError
from slipstream.operators.operator import Operator
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters

if TYPE_CHECKING:
    from slipstream.assessment.tried import Acceleration


class Accelerated(Stepper):
    """A stepper with transforms applied to its operators; what lies around them (normalisation, the state) stays as it is.

    The original is kept, and is what is saved: the transforms are applied again where the model is loaded, compiled ones at their
    first call. New weights in the original are noticed when a rollout starts. Where gradients are asked for, the original answers,
    since compiled and rounded graphs have none, or others. It is not trained itself.

    Parameters
    ----------
    stepper : the original; put into evaluation mode.
    transforms : in any order; applied in that of their stages.

    Attributes
    ----------
    acceleration : the table of `slipstream.accelerate`, where that made it; not saved with the model.
    """

    acceleration: Acceleration | None = None

    def __init__(self, stepper: Stepper, transforms: Sequence[Transform] = ()) -> None:
        super().__init__()
        if isinstance(stepper, Accelerated):
            raise InputError("This stepper is accelerated already; begin with the one that it keeps: stepper.stepper.")
        self.stepper = stepper
        self.transforms = ordered(transforms)
        self.interval, self.history, self.horizon = stepper.interval, stepper.history, stepper.horizon
        self.channels, self.grid, self.starter = stepper.channels, stepper.grid, stepper.starter
        self.problem = getattr(stepper, "problem", None)
        self._made: tuple[Any, list[Stepper]] = (None, [])  # a list hides it from the state, which is the original's
        self.eval()

    def train(self, mode: bool = True) -> Accelerated:
        """Evaluation only."""
        if mode:
            raise InputError(
                "An accelerated stepper is not trained: its weights are rounded, packed or compiled. "
                "Train the original, stepper.stepper, and accelerate it again."
            )
        super().train(False)
        return self

    @property
    def fast(self) -> Stepper:
        """The stepper that does the work, made when it is first needed and again when the original's weights have changed."""
        version = [(p.data_ptr(), p.dtype, 0 if p.is_inference() else p._version) for p in self.stepper.parameters()]
        if self._made[0] != version:
            self._made = (version, [transformed(self.stepper, self.transforms)])
        return self._made[1][0]

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space2"]:
        if _differentiated(past, parameters):
            return self.stepper(past, parameters)
        with torch.no_grad():
            return self.fast(past, parameters)

    def start(self, frames: Float[Tensor, "batch time channel *space"], parameters: Parameters) -> State:
        if _differentiated(frames, parameters):
            return self.stepper.start(frames, parameters)
        with torch.no_grad():
            return self.fast.start(frames, parameters)

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        if _differentiated(state.values, parameters):
            return self.stepper.advance(state, parameters, generator)
        made = self._made[1]
        with torch.no_grad():
            return (made[0] if made else self.fast).advance(state, parameters, generator)

    def check(self, frames: Tensor) -> None:
        self.stepper.check(frames)

    def advice(self, frames: Float[Tensor, "batch time channel *space"], parameters: Parameters) -> str:
        return self.stepper.advice(frames, parameters)


def transformed(stepper: Stepper, transforms: Sequence[Transform]) -> Stepper:
    """A stepper like this one whose operators are transformed ones; everything else is shared.

    Raises
    ------
    Unsuitable : a transform suits none of its operators.
    """
    if not transforms:
        return stepper
    swaps: dict[nn.Module, nn.Module] = {operator: operator for operator in operators_of(stepper)}
    for transform in ordered(transforms):
        reasons = {source: transform.unsuitable(module) for source, module in swaps.items()}
        if all(reasons.values()):
            raise Unsuitable(f"{transform.label}: {next(iter(reasons.values()), 'there is no operator')}.")
        for source, reason in reasons.items():
            if not reason:
                swaps[source] = transform.attach(swaps[source]).finish()
    twin = _grafted(stepper, swaps)
    assert isinstance(twin, Stepper)
    return twin.eval()


def operators_of(module: nn.Module) -> list[Operator]:
    """The outermost operators inside a module, each once."""
    found: list[Operator] = []
    for child in module.children():
        found += [child] if isinstance(child, Operator) else operators_of(child)
    return list(dict.fromkeys(found))


def _grafted(module: nn.Module, swaps: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """The same tree of modules with some replaced; tensors and attributes are shared, nothing of the original changes."""
    if module in swaps:
        return swaps[module]
    twin = copy.copy(module)
    twin.__dict__["_modules"] = {
        name: None if child is None else _grafted(child, swaps) for name, child in module._modules.items()
    }
    return twin


def _differentiated(*values: Any) -> bool:
    if not torch.is_grad_enabled():
        return False
    leaves = torch.utils._pytree.tree_leaves([dict(v) if isinstance(v, Mapping) else v for v in values])
    return any(isinstance(v, Tensor) and v.requires_grad for v in leaves)
