"""Transform: makes any module cheaper, and says by how much."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain
from typing import ClassVar

import torch
from torch import Tensor, nn

from slipstream.errors import InputError


class Stage(IntEnum):
    """What a transform changes. A combination is applied in this order, whatever order it is written in."""

    STRUCTURE = 0
    """Which numbers are computed from which: another form of a layer, fewer weights, another network."""
    ARITHMETIC = 1
    """The number format."""
    LAYOUT = 2
    """Where the numbers lie in memory."""
    EXECUTION = 3
    """Who runs the graph."""
    BATCHING = 4
    """How many samples go through at a time."""


@dataclass(frozen=True)
class Cost:
    """What a module costs.

    Attributes
    ----------
    parameters : numbers that it has learnt. bytes : of them and of its buffers, as they lie in memory.
    flops : of one call, products and convolutions only (a multiply-add is two); None where no call was given.
    seconds : of one job, measured; None where none was timed.
    """

    parameters: int
    bytes: int
    flops: int | None = None
    seconds: float | None = None


def cost_of(module: nn.Module, *inputs: Tensor) -> Cost:
    """Count a module; with the inputs of one call, its operations too."""
    # Packed weights of quantised layers are neither parameters nor buffers; the state holds them, in tuples.
    packed = [t for v in module.state_dict().values() if isinstance(v, tuple) for t in v if isinstance(t, Tensor)]
    return Cost(
        parameters=sum(t.numel() for t in chain(module.parameters(), packed)),
        bytes=sum(t.numel() * t.element_size() for t in chain(module.parameters(), module.buffers(), packed)),
        flops=count_flops(lambda: module(*inputs)) if inputs else None,
    )


def count_flops(work: Callable[[], object]) -> int:
    """Operations of a piece of eager work, products and convolutions only."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


class Unsuitable(InputError):
    """A transform has nothing to do for a module, or cannot work here; the message says why."""


class Handle(ABC):
    """One transform at work on one module; `before` is what the module cost when it was attached."""

    def __init__(self, module: nn.Module) -> None:
        self.before = cost_of(module)
        self.after: Cost | None = None

    def after_step(self) -> None:  # noqa: B027 (most have nothing to do)
        """To be called after every training step, by transforms that work while a module learns."""

    def finish(self) -> nn.Module:
        """The cheaper module, in evaluation mode. States its cost in `after`."""
        module = self.result().eval()
        self.after = cost_of(module)
        return module

    @abstractmethod
    def result(self) -> nn.Module:
        """The cheaper module; the one that was attached stays as it was."""


class Transform(ABC):
    """Makes a module cheaper: ``transform.attach(module).finish()``.

    A transform can be saved like a model: every constructor argument is kept under its own name.

    Attributes
    ----------
    stage : what it changes. after : stages of the transforms that it can come after; its own among them if it can follow others of it.
    tolerance : relative L2 error of the outputs that is to be expected of well-conditioned modules; what counts is measured.
    """

    stage: ClassVar[Stage]
    after: ClassVar[frozenset[Stage]]
    tolerance: float

    def __init__(self) -> None:
        """Without arguments; written out because that of `object` takes any, and could not be saved."""
        super().__init__()

    @property
    @abstractmethod
    def label(self) -> str:
        """What it is called in tables, in a word or two."""

    @abstractmethod
    def unsuitable(self, module: nn.Module) -> str:
        """Why it cannot do anything for this module on this machine, as a clause; empty if it can."""

    @abstractmethod
    def attach(self, module: nn.Module) -> Handle:
        """Begin. Raises `Unsuitable` where it is; a transform that is applied already is."""

    def __repr__(self) -> str:
        return self.label


class OneShot(Transform):
    """A transform that needs no training: `finish` may be called at once."""

    @abstractmethod
    def convert(self, module: nn.Module) -> nn.Module:
        """The cheaper module, from a copy that may be changed and used up."""

    def attach(self, module: nn.Module) -> Handle:
        if reason := self.unsuitable(module):
            raise Unsuitable(f"{self.label} does nothing for {type(module).__name__}: {reason}.")
        return _Once(self, module)


class _Once(Handle):
    def __init__(self, transform: OneShot, module: nn.Module) -> None:
        super().__init__(module)
        self.transform, self.module = transform, module

    def result(self) -> nn.Module:
        twin = copy.deepcopy(self.module).eval().requires_grad_(False)
        return self.transform.convert(twin)


def follows(transform: Transform, earlier: Iterable[Transform]) -> bool:
    """Whether a transform can be added to a combination: it can come after each, and is not there yet."""
    return all(t.stage in transform.after and type(t) is not type(transform) for t in earlier)


def ordered(transforms: Iterable[Transform]) -> tuple[Transform, ...]:
    """A combination in the order in which it is applied.

    Raises
    ------
    InputError : two of them exclude one another.
    """
    chosen = tuple(sorted(transforms, key=lambda t: t.stage))
    for i, transform in enumerate(chosen):
        if not follows(transform, chosen[:i]):
            raise InputError(
                f"{transform.label} cannot be combined with {', '.join(t.label for t in chosen[:i])}: "
                f"it can follow {', '.join(s.name.lower() for s in sorted(transform.after)) or 'nothing'}, each transform once."
            )
    return chosen


def apply(module: nn.Module, transforms: Iterable[Transform]) -> nn.Module:
    """The module that a combination of transforms makes; the one given stays as it was."""
    for transform in ordered(transforms):
        module = transform.attach(module).finish()
    return module


def applied(module: nn.Module, wrapper: type[nn.Module]) -> bool:
    """Whether a transform has been here before: its wrapper is somewhere inside."""
    return any(isinstance(m, wrapper) for m in module.modules())
