"""Rollout: a stepper applied to its own output."""

from __future__ import annotations

from dataclasses import replace
from typing import overload

import torch
from torch import Tensor

from slipstream.errors import InputError, UnstableStep
from slipstream.stepper import Stepper
from slipstream.trajectories import Parameters, Trajectories, take


@overload
def rollout(stepper: Stepper, frames: Trajectories, steps: int, *, parameters: Parameters | None = ..., chunk: int = ...,
            members: int = ..., generator: torch.Generator | None = ..., grad: bool = ...,
            guard: bool = ...) -> Trajectories: ...  # fmt: skip
@overload
def rollout(stepper: Stepper, frames: Tensor, steps: int, *, parameters: Parameters | None = ..., chunk: int = ...,
            members: int = ..., generator: torch.Generator | None = ..., grad: bool = ...,
            guard: bool = ...) -> Tensor: ...  # fmt: skip
def rollout(
    stepper: Stepper,
    frames: Trajectories | Tensor,
    steps: int,
    *,
    parameters: Parameters | None = None,
    chunk: int = 32,
    members: int = 1,
    generator: torch.Generator | None = None,
    grad: bool = False,
    guard: bool = True,
) -> Trajectories | Tensor:
    """Exactly `steps` new frames after the given ones.

    Parameters
    ----------
    stepper : any. Fewer frames than it needs are completed by its starter: the made-up frames count as new ones.
    frames : known frames, (run, time, channel, *space), or trajectories (whose parameters are used).
    chunk : runs marched together. members : ensemble members a run; results are run-major, (run * members, ...).
    generator : the only source of randomness. grad : keep the graph. guard : False returns non-finite frames as they come.

    Raises
    ------
    UnstableStep : a frame left finite numbers; the message says at which step.
    """
    if isinstance(frames, Trajectories):
        _same_interval(stepper, frames)
        known, given = frames.frames, dict(frames.parameters if parameters is None else parameters)
    else:
        known, given = frames, dict(parameters or {})
    if steps < 1 or members < 1 or chunk < 1:
        raise InputError(f"rollout needs steps, members and chunk of at least 1; got {steps}, {members}, {chunk}.")
    if members > 1:
        known = known.repeat_interleave(members, dim=0)
        given = {k: v.repeat_interleave(members, dim=0) for k, v in given.items()}
    results, starts = [], 0
    training = stepper.training
    stepper.eval()
    try:
        with torch.set_grad_enabled(grad):
            for first in range(0, known.shape[0], chunk):
                part = slice(first, first + chunk)
                new, started = _march(stepper, known[part], take(given, part), steps, generator, guard)
                results.append(new)
                starts += started
    finally:
        stepper.train(training)
    result = torch.cat(results) if len(results) > 1 else results[0]
    if not isinstance(frames, Trajectories):
        return result
    about = {**frames.about, "stepper": type(stepper).__name__} | ({"members": members} if members > 1 else {})
    start_time = frames.start_time + frames.interval * frames.steps
    return replace(frames, frames=result, parameters=given, start_time=start_time, starter_steps=starts, about=about)


def _march(
    stepper: Stepper,
    known: Tensor,
    parameters: Parameters,
    steps: int,
    generator: torch.Generator | None,
    guard: bool,
) -> tuple[Tensor, int]:
    state = stepper.start(known, parameters)
    pieces: list[Tensor] = []
    count = 0
    if 0 < known.shape[1] < stepper.history and isinstance(state.values, Tensor):
        pieces.append(state.values[:, known.shape[1] :])
        count = pieces[0].shape[1]
    last = known
    while count < steps:
        state, new = stepper.advance(state, parameters, generator)
        if guard and not bool(torch.isfinite(new).all()):
            bad = ~torch.isfinite(new.detach()).flatten(2).all(-1).all(0)
            step = count + int(bad.nonzero()[0])
            advice = stepper.advice(last.detach(), parameters)
            raise UnstableStep(
                f"{type(stepper).__name__} left finite numbers at step {step + 1} (t = {(step + 1) * stepper.interval:.4g}); "
                f"the last finite frame before that call had max|u| = {float(last.detach().abs().max()):.4g}. {advice}".rstrip()
            )
        pieces.append(new)
        count += new.shape[1]
        last = new
    return torch.cat(pieces, dim=1)[:, :steps], state.starter_steps


def _same_interval(stepper: Stepper, frames: Trajectories) -> None:
    if stepper.history and abs(stepper.interval - frames.interval) > 1e-6 * max(stepper.interval, frames.interval):
        raise InputError(
            f"{type(stepper).__name__} advances by {stepper.interval:g}, the frames are {frames.interval:g} apart. "
            "Take every n-th frame (frames[:, ::n]) or a stepper of their interval."
        )
