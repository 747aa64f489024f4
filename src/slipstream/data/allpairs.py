"""All pairs: from every frame of a trajectory to every later one, for steppers that are continuous in the lead time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from slipstream.data.dataset import Dataset
from slipstream.data.source import Source, check_layout
from slipstream.data.windows import check_finite
from slipstream.errors import InputError
from slipstream.trajectories import Trajectories, Window, take

LEAD_TIME = "lead_time"


class AllPairs(Source):
    r"""Endless batches of two frames of a run, any time apart; how long stands in ``window.parameters["lead_time"]``.

    The solution operator is a semigroup, :math:`S(t + s) = S(t) S(s)`: every frame is also the start of what comes after it. So a run of
    K + 1 frames holds K (K + 1) / 2 samples instead of the K from its first frame, or (K + 1) (K + 2) / 2 with `identity`.

    An epoch shows every pair of every run once, in an order that `generator` alone decides. There are more pairs a short time apart than
    a long one; `balanced`, every lead time comes as often, in independent draws instead of epochs. ``window.frames`` has two frames, the
    given and the sought one; ``window.interval`` is that of the data.

    Parameters
    ----------
    data : trajectories, or data on disk that fit into memory.
    batch : pairs in a batch.
    runs : which runs.
    transitions : numbers of frames that may lie between the two, counted from frame to frame (1: neighbours); all where None.
    identity : whether a frame is also paired with itself, lead time 0. With `transitions`, put 0 among them instead.
    balanced : whether all lead times come equally often.

    Raises
    ------
    InputError : transitions longer than a run, fewer pairs than a batch, a parameter that is called ``lead_time`` already, values that are
        not finite.

    References
    ----------
    Herde et al., Poseidon, NeurIPS 2024 (arXiv:2405.19101).
    """

    def __init__(
        self,
        data: Trajectories | Dataset,
        batch: int,
        runs: slice = slice(None),
        transitions: Sequence[int] | None = None,
        identity: bool = False,
        balanced: bool = False,
    ) -> None:
        frames = data[runs] if isinstance(data, Trajectories) else data.trajectories(runs)
        self.data, self.batch, self.runs, self.balanced = frames, batch, runs, balanced
        shortest = 0 if identity else 1
        self.transitions = tuple(range(shortest, frames.steps) if transitions is None else sorted(set(transitions)))
        if LEAD_TIME in frames.parameters:
            raise InputError(
                f"The data have a parameter {LEAD_TIME!r} of their own; rename it, or these pairs would hide it."
            )
        if not self.transitions or self.transitions[0] < 0 or self.transitions[-1] >= frames.steps:
            raise InputError(
                f"AllPairs got transitions {self.transitions} for runs of {frames.steps} frames; expected at least one, each from 0 to "
                f"{frames.steps - 1}."
            )
        check_finite(frames)
        of_lead = [torch.arange(frames.steps - lead) for lead in self.transitions]
        self._first = torch.cat(of_lead)
        self._lead = torch.tensor(self.transitions).repeat_interleave(torch.tensor([len(f) for f in of_lead]))
        self.num_pairs = len(self._first)
        """Pairs in a run."""
        self.num_windows = self.num_pairs * frames.runs
        """Pairs in an epoch."""
        if not 1 <= batch <= self.num_windows:
            raise InputError(
                f"A batch of {batch} pairs was asked for; expected 1 to {self.num_windows}, the pairs that there are."
            )
        self._seed, self._position = 0, self.num_windows  # the first `next` begins an epoch
        self._order: tuple[int, Tensor] | None = None

    def next(self, generator: torch.Generator) -> Window:
        run, first, lead = self._draw(generator) if self.balanced else self._go_on(generator)
        frames = torch.stack([self.data.frames[run, first], self.data.frames[run, first + lead]], 1)
        time = lead.to(frames.dtype) * self.data.interval
        parameters = {**take(self.data.parameters, run), LEAD_TIME: time.to(frames.device)}
        return Window(frames, self.data.grid, self.data.interval, parameters, self.data.weights)

    def _draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        def uniform() -> Tensor:
            return torch.rand(self.batch, generator=generator, device=generator.device, dtype=torch.float64).cpu()

        run = (uniform() * self.data.runs).long()
        lead = torch.tensor(self.transitions)[(uniform() * len(self.transitions)).long()]
        return run, (uniform() * (self.data.steps - lead)).long(), lead

    def _go_on(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """The next pairs of the epoch; where it ends within a batch, the next one begins."""
        chosen: list[Tensor] = []
        while (missing := self.batch - sum(len(c) for c in chosen)) > 0:
            if self._position == self.num_windows:
                self._seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
                self._position = 0
            if self._order is None or self._order[0] != self._seed:
                shuffled = torch.randperm(self.num_windows, generator=torch.Generator().manual_seed(self._seed))
                self._order = self._seed, shuffled
            chosen.append(self._order[1][self._position : self._position + missing])
            self._position += len(chosen[-1])
        index = torch.cat(chosen)
        pair = index % self.num_pairs
        return index // self.num_pairs, self._first[pair], self._lead[pair]

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self._seed, "position": self._position, "layout": self._layout()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_layout("AllPairs", state, self._layout())
        self._seed, self._position = int(state["seed"]), int(state["position"])

    def _layout(self) -> dict[str, Any]:
        return {
            "runs": self.data.runs,
            "which": str(self.runs),
            "frames": self.data.steps,
            "batch": self.batch,
            "transitions": str(self.transitions),
            "balanced": self.balanced,
        }
