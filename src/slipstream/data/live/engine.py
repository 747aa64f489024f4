"""Engine: where the runs of a live ensemble are computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class Member:
    """One run of an ensemble: what a client needs to compute it again, to the last bit.

    Parameters
    ----------
    number : of the run, in the order in which runs are drawn; never used twice.
    seed : of its random initial state and of whatever else is random in it.
    parameters : of this run, without a batch axis.
    steps : frames that it will send, the initial one included.
    """

    number: int
    seed: int
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    steps: int = 1


@dataclass(frozen=True)
class Delivered:
    """Frame `step` of a run, (channel, *space), as the client sent it: nobody has looked at it yet."""

    member: int
    step: int
    frame: Tensor
    seconds: float = 0.0
    """Processor seconds that the solver spent on it."""


@dataclass(frozen=True)
class Finished:
    """A run has sent all its frames."""

    member: int


@dataclass(frozen=True)
class Lost:
    """The client of a run is gone, or silent for too long, or sent what cannot be read. The ensemble decides whether it starts anew."""

    member: int
    reason: str


Event = Delivered | Finished | Lost


@runtime_checkable
class Engine(Protocol):
    """Computes the runs it is given, at most `clients` at once, and reports what happens to them.

    Runs start in the order of `submit`. Frames of one run come in the order of its steps; a run that is submitted again starts from its
    beginning, and the ensemble drops what it has. An engine holds no more than a few frames a client: while nobody polls, clients wait.
    """

    @property
    def clients(self) -> int:
        """How many runs are computed at once; may be changed while running (`resize`)."""
        ...

    def resize(self, clients: int) -> None:
        """Compute so many runs at once from now on; runs under way are finished."""
        ...

    def submit(self, members: Sequence[Member]) -> None:
        """Compute these as soon as a client is free."""
        ...

    def poll(self, wait: bool = False) -> list[Event]:
        """What has happened since the last call, in order; with `wait`, return only when something has (or nothing is under way)."""
        ...

    def cancel(self, members: Sequence[int]) -> None:
        """Forget these runs: their clients stop, nothing more is reported about them."""
        ...

    def close(self) -> None:
        """Stop every client and give back what the engine holds. Safe to call twice."""
        ...

    def describe(self) -> dict[str, Any]:
        """What it is and where it runs, for logs and evidence files (JSON-able)."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """What an engine has besides if it can go on to the bit where it was; others compute the runs that were under way once more."""

    def state_dict(self) -> dict[str, Any]:
        """What is submitted and how far every run is: plain values and the members' parameters, no frames."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Be where `state_dict` was called; nothing has to be submitted again."""
        ...
