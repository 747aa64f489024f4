"""Reception: what clients send is looked at, counted once, and cut into samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from slipstream.data.live.buffers import Sample
from slipstream.data.live.engine import Delivered, Member

LEAD_TIME = "lead_time"


@dataclass
class Run:
    """A run under way.

    Parameters
    ----------
    received : frames that were taken from it, over all its attempts: each step once.
    sent : frames that its present attempt has sent, those of before included.
    losses : how often it was lost. tail : its last frames, as many as a sample needs.
    """

    member: Member
    received: int = 0
    sent: int = 0
    losses: int = 0
    tail: list[Tensor] = field(default_factory=list)

    def restart(self) -> None:
        """Its client starts from the beginning; what was received stays received."""
        self.sent = 0


class Refused(Exception):
    """A frame that cannot be taken; says why."""


class Reception:
    """Checks frames and makes samples of them, in float32.

    Parameters
    ----------
    shape : of every frame, (channel, *space).
    length : consecutive frames in a sample.
    interval : between frames. direct : samples are single frames that know their time, as the parameter ``lead_time``; the initial frame
        (time 0), which needs no prediction, makes none.
    """

    def __init__(self, shape: Sequence[int], length: int, interval: float, direct: bool) -> None:
        self.shape, self.length = tuple(shape), length
        self.interval, self.direct = interval, direct

    def samples_a_run(self, steps: int) -> int:
        return steps - 1 if self.direct else steps - self.length + 1

    def take(self, run: Run, event: Delivered) -> Sample | None:
        """The sample that a frame completes, if it is a new one and completes any.

        Raises
        ------
        Refused : the frame has another shape or holds other than floating numbers, is not finite (as float32), or is not the next one of
            its run.
        """
        frame, member = event.frame, run.member
        if tuple(frame.shape) != self.shape or frame.dtype not in (torch.float32, torch.float64):
            raise Refused(
                f"sent a frame of shape {tuple(frame.shape)} ({frame.dtype}) at step {event.step}; expected {self.shape} in float32 or "
                "float64"
            )
        if event.step != run.sent or event.step >= member.steps:
            raise Refused(
                f"sent step {event.step} where step {run.sent} of {member.steps} (counted from 0) was expected"
            )
        frame = frame.to(torch.float32)
        if not _finite(frame):
            raise Refused(f"sent values that are not finite at step {event.step}")
        run.sent += 1
        if event.step < run.received:
            return None
        run.received += 1
        if self.direct:
            if event.step == 0:
                return None
            time = torch.tensor(event.step * self.interval)
            return Sample(frame[None], member.number, event.step, {**member.parameters, LEAD_TIME: time})
        run.tail.append(frame.clone())
        del run.tail[: -self.length]
        if len(run.tail) < self.length:
            return None
        return Sample(torch.stack(run.tail), member.number, event.step, member.parameters)


def _finite(frame: Tensor) -> bool:
    """Whether all values are: so it is where their sum is; where that is not, it may only be too large."""
    return math.isfinite(frame.sum().item()) or bool(torch.isfinite(frame).all())


def plain(run: Run) -> dict[str, Any]:
    """A run as plain values."""
    m = run.member
    return {
        "number": m.number,
        "seed": m.seed,
        "steps": m.steps,
        "parameters": dict(m.parameters),
        "received": run.received,
        "sent": run.sent,
        "losses": run.losses,
        "tail": torch.stack(run.tail) if run.tail else None,
    }


def restored(saved: dict[str, Any]) -> Run:
    """The run that `plain` wrote down."""
    parameters = {k: v.clone() for k, v in saved["parameters"].items()}
    member = Member(int(saved["number"]), int(saved["seed"]), parameters, int(saved["steps"]))
    tail = [] if saved["tail"] is None else [f.clone() for f in saved["tail"]]
    return Run(member, int(saved["received"]), int(saved["sent"]), int(saved["losses"]), tail)
