"""Buffers: what stands between solvers that produce and a training that consumes, each at its own speed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.data.source import check_layout
from slipstream.errors import InputError, ShapeError
from slipstream.trajectories import Parameters


@dataclass(frozen=True)
class Sample:
    """Some consecutive frames of a run, (time, channel, *space), its parameters without a batch axis, and where they come from."""

    frames: Tensor
    member: int
    step: int
    """Of the last of these frames."""
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """Samples drawn from a buffer: a copy, the caller's own."""

    frames: Float[Tensor, "batch time channel *space"]
    parameters: dict[str, Tensor]
    members: Tensor
    steps: Tensor
    drawn: Tensor
    """How often each has been drawn, this time included."""

    def __len__(self) -> int:
        return len(self.frames)


class Buffer:
    """Keeps up to `capacity` samples in memory that is taken once, with the first sample, and never grows.

    A subclass says which sample makes room for a new one (`_make_room`) and which are drawn (`_draw`, the first `_seen` entries of
    `_order` being those that were drawn before). Randomness comes from the generator that is handed in.

    Parameters
    ----------
    capacity : samples it holds.
    threshold : samples that must be there for one to be drawn, until production has ended; None is the subclass's own.

    Raises
    ------
    InputError : numbers that make no buffer.
    """

    share = 0.0
    """Of the capacity: the threshold where none is given, at least 1."""

    def __init__(self, capacity: int, threshold: int | None = None) -> None:
        least = max(1, math.ceil(self.share * capacity)) if threshold is None else threshold
        if not 1 <= least <= capacity:
            raise InputError(
                f"{type(self).__name__} expects 1 <= threshold <= capacity; got capacity={capacity}, threshold={threshold}."
            )
        self.capacity, self.threshold, self._least = capacity, threshold, least
        self.reset()

    def reset(self) -> None:
        """Empty, and as new."""
        self._frames: Tensor | None = None
        self._parameters: dict[str, Tensor] = {}
        self._members = torch.zeros(self.capacity, dtype=torch.long)
        self._steps = torch.zeros(self.capacity, dtype=torch.long)
        self._drawn = torch.zeros(self.capacity, dtype=torch.long)
        self._born = torch.zeros(self.capacity, dtype=torch.long)
        self._order: list[int] = []
        self._free = list(range(self.capacity - 1, -1, -1))
        self._seen = 0
        self._retired: Counter[int] = Counter()
        self.produced = self.consumed = 0
        """Samples put, and samples drawn (repetitions counted)."""
        self.closed = False

    def __len__(self) -> int:
        return len(self._order)

    def __bool__(self) -> bool:
        """An empty buffer is a buffer all the same: ``buffer or default`` keeps it."""
        return True

    @property
    def unseen(self) -> int:
        """Samples that have not been drawn yet."""
        return len(self._order) - self._seen

    @property
    def room(self) -> int:
        """How many more samples it takes before one of them is drawn."""
        return self.capacity - len(self._order)

    def needs(self, count: int = 1) -> int:
        """Samples that must be here for so many to be drawn, one after the other, before production has ended."""
        return self._least + count - 1

    def ready(self, count: int = 1) -> bool:
        """Whether so many samples can be drawn now."""
        return len(self._order) >= (1 if self.closed else self.needs(count))

    @property
    def nbytes(self) -> int:
        """Bytes of memory that samples take, empty places included."""
        held = [t for t in (self._frames, *self._parameters.values()) if t is not None]
        held += [self._members, self._steps, self._drawn, self._born]
        return sum(t.numel() * t.element_size() for t in held)

    def put(self, sample: Sample, generator: torch.Generator) -> bool:
        """Take a sample in; False, and nothing done, where there is no room: the client has to wait."""
        if self.closed:
            raise InputError(f"{type(self).__name__} was closed: production has ended, it takes no more samples.")
        if self.room < 1:
            return False
        if self._frames is None:
            self._allocate(sample)
        assert self._frames is not None
        if sample.frames.shape != self._frames.shape[1:] or sample.frames.dtype != self._frames.dtype:
            raise ShapeError(
                f"{type(self).__name__} holds samples of shape {tuple(self._frames.shape[1:])} ({self._frames.dtype}); "
                f"got {tuple(sample.frames.shape)} ({sample.frames.dtype})."
            )
        if not self._free:
            self._remove(self._make_room(generator))
        slot = self._free.pop()
        self._frames[slot] = sample.frames
        # Single entries through NumPy, which sees the same memory and takes a third of the time.
        for name, store in self._parameters.items():
            store.numpy()[slot] = sample.parameters[name].numpy()
        self._members.numpy()[slot], self._steps.numpy()[slot] = sample.member, sample.step
        self._drawn.numpy()[slot], self._born.numpy()[slot] = 0, self.produced
        self._order.append(slot)
        self.produced += 1
        return True

    def _allocate(self, sample: Sample) -> None:
        self._frames = sample.frames.new_empty(self.capacity, *sample.frames.shape)
        self._parameters = {k: v.new_empty(self.capacity, *v.shape) for k, v in sample.parameters.items()}

    def get(self, count: int, generator: torch.Generator) -> Batch:
        """Samples drawn one after the other by this buffer's law; fewer than `count` only where production has ended and no more are left.

        Raises
        ------
        InputError : it is not `ready`.
        """
        if count < 1 or not self.ready(count):
            raise InputError(
                f"{type(self).__name__} holds {len(self)} samples; {count} cannot be drawn before there are "
                f"{self.needs(count)}. Wait for the solvers, or close it if they have ended."
            )
        assert self._frames is not None
        places = self._draw(count, generator)
        slots = torch.tensor([self._order[place] for place in places])
        # A sample drawn twice in one batch counts twice.
        self._drawn.index_add_(0, slots, torch.ones_like(slots))
        self.consumed += len(slots)
        drawn = Batch(
            self._frames[slots],
            {k: v[slots] for k, v in self._parameters.items()},
            self._members[slots],
            self._steps[slots],
            self._drawn[slots],
        )
        self._after(places)
        return drawn

    def close(self) -> None:
        """Production has ended: the threshold is lifted, what is drawn from now on is removed, until nothing is left."""
        self.closed = True

    def _make_room(self, generator: torch.Generator) -> int:
        """Place in the order of the sample that goes when the buffer is full."""
        raise TypeError(f"{type(self).__name__} lets no sample go.")

    def _draw(self, count: int, generator: torch.Generator) -> Sequence[int]:
        """Places in the order of the samples that are drawn."""
        raise TypeError(f"{type(self).__name__} draws nothing: a buffer defines _draw(count, generator).")

    def _after(self, places: Sequence[int]) -> None:
        """What becomes of the samples that were drawn; they are removed, but by those who keep them."""
        for place in sorted(places, reverse=True):
            self._remove(place)

    def _remove(self, place: int) -> None:
        """One sample out of the order, in constant time; the seen ones stay in front."""
        slot = self._order[place]
        if place < self._seen:
            self._seen -= 1
            self._order[place] = self._order[self._seen]
            place = self._seen
        self._order[place] = self._order[-1]
        self._order.pop()
        self._retire(slot)

    def _retire(self, slot: int) -> None:
        self._retired[int(self._drawn.numpy()[slot])] += 1
        self._free.append(slot)

    def repetitions(self) -> dict[int, int]:
        """How many samples, of all that were ever put, have been drawn so many times."""
        here = self._drawn[self._order].bincount().tolist() if self._order else []
        total = self._retired + Counter({times: n for times, n in enumerate(here) if n})
        return dict(sorted(total.items()))

    def ages(self) -> Tensor:
        """Of the samples that are here: how many others were put since."""
        return self.produced - 1 - self._born[self._order]

    def occupancy(self) -> tuple[dict[int, int], dict[int, int]]:
        """How many samples are here of each time step, and how many of each run."""
        steps, members = (Counter(of[self._order].tolist()) for of in (self._steps, self._members))
        return dict(sorted(steps.items())), dict(sorted(members.items()))

    def state_dict(self) -> dict[str, Any]:
        """Everything, contents included. Tensors are the buffer's own: write them down, or copy them, before it goes on."""
        used = max(self._order, default=-1) + 1
        return {
            "layout": self._layout(),
            "frames": None if self._frames is None else self._frames[:used],
            "parameters": {k: v[:used] for k, v in self._parameters.items()},
            "members": self._members[:used],
            "steps": self._steps[:used],
            "drawn": self._drawn[:used],
            "born": self._born[:used],
            "order": torch.tensor(self._order, dtype=torch.long),
            "free": torch.tensor(self._free, dtype=torch.long),
            "seen": self._seen,
            "retired": {str(k): v for k, v in self._retired.items()},
            "produced": self.produced,
            "consumed": self.consumed,
            "closed": self.closed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_layout(type(self).__name__, state, self._layout())
        used = len(state["members"])
        self.reset()
        if state["frames"] is not None:
            self._frames = state["frames"].new_empty(self.capacity, *state["frames"].shape[1:])
            self._frames[:used] = state["frames"]
            for name, value in state["parameters"].items():
                self._parameters[name] = value.new_empty(self.capacity, *value.shape[1:])
                self._parameters[name][:used] = value
        for mine, name in (
            (self._members, "members"),
            (self._steps, "steps"),
            (self._drawn, "drawn"),
            (self._born, "born"),
        ):
            mine[:used] = state[name]
        self._order, self._free = state["order"].tolist(), state["free"].tolist()
        self._seen, self.closed = int(state["seen"]), bool(state["closed"])
        self._retired = Counter({int(k): int(v) for k, v in state["retired"].items()})
        self.produced, self.consumed = int(state["produced"]), int(state["consumed"])

    def _layout(self) -> dict[str, Any]:
        return {"buffer": type(self).__name__, "capacity": self.capacity, "threshold": self._least}


class FIFO(Buffer):
    """First in, first out: every sample once, in the order in which it was made. It mixes nothing, and is what others are compared with.

    Parameters
    ----------
    capacity, threshold : as in `Buffer`; the threshold is 1 where None.
    """

    def _draw(self, count: int, generator: torch.Generator) -> Sequence[int]:
        return range(min(count, len(self._order)))

    def _after(self, places: Sequence[int]) -> None:
        gone, self._order = self._order[: len(places)], self._order[len(places) :]
        for slot in gone:
            self._retire(slot)


class FIRO(Buffer):
    """First in, random out: every sample once, drawn uniformly from those that are there.

    Parameters
    ----------
    capacity, threshold : as in `Buffer`; the threshold is a third of the capacity where None.
    """

    share = 1 / 3

    def _draw(self, count: int, generator: torch.Generator) -> Sequence[int]:
        return _without_replacement(len(self._order), count, generator)


class Reservoir(Buffer):
    """Draws uniformly and with replacement, and keeps what it has drawn until room is needed: the learner never waits, nothing is lost.

    A new sample takes the place of one that was drawn before, picked uniformly among these; where every sample is new, the client waits. So
    each sample is used at least once, and batches are close to independent draws over runs and times once the buffer holds several times
    what the clients send in a run: ten times is the rule. After the end of production what is drawn is removed.

    Parameters
    ----------
    capacity, threshold : as in `Buffer`; the threshold is a third of the capacity where None.

    References
    ----------
    Meyer et al., ICML 2023 (arXiv:2306.16133).
    """

    share = 1 / 3

    @property
    def room(self) -> int:
        return self.capacity - self.unseen

    def needs(self, count: int = 1) -> int:
        return self._least

    def _make_room(self, generator: torch.Generator) -> int:
        return int(torch.randint(self._seen, (), generator=generator))

    def _draw(self, count: int, generator: torch.Generator) -> Sequence[int]:
        if self.closed:
            return _without_replacement(len(self._order), count, generator)
        return torch.randint(len(self._order), (count,), generator=generator).tolist()

    def _after(self, places: Sequence[int]) -> None:
        if self.closed:
            super()._after(places)
            return
        for place in sorted({p for p in places if p >= self._seen}):  # they move to the front, among the seen ones
            order, first = self._order, self._seen
            order[first], order[place] = order[place], order[first]
            self._seen += 1


def _without_replacement(held: int, count: int, generator: torch.Generator) -> Sequence[int]:
    return torch.randperm(held, generator=generator)[:count].tolist()
