"""`slipstream.train`: a module, what to train it on, what to minimise."""

from __future__ import annotations

import os
from collections.abc import Sequence

from torch import nn

from slipstream.data.choose import Data, as_source
from slipstream.errors import InputError
from slipstream.objectives.objective import Objective
from slipstream.training import loop
from slipstream.training.callbacks import Callback
from slipstream.training.ema import EMA
from slipstream.training.schedules import Schedule
from slipstream.training.update import Descent, Update


def train(
    module: nn.Module,
    data: Data,
    objective: Objective,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    batch: int = 8,
    lr: float | None = None,
    update: Update | None = None,
    schedule: Schedule | None = None,
    ema: EMA | None = None,
    callbacks: Sequence[Callback] = (),
    seed: int = 0,
    folder: str | os.PathLike | None = None,
    resume: bool = True,
    force: bool = False,
    save_every: float = 60.0,
    show: bool = True,
) -> loop.Training:
    """Train a module in place until the budget is spent.

    With a `folder`, a training that was stopped in any way goes on when the same call is made again.

    Parameters
    ----------
    module : a stepper or any module that the objective understands.
    data : a problem, trajectories, a store or its path, or a source; see `slipstream.data.as_source`.
    objective : what is minimised. Objectives add and scale: ``PhysicsResidual() + 0.1 * Supervised()``.
    minutes, steps : the budget, one of them.
    batch : windows a step, where `data` is not a source.
    lr : learning rate of the default update; give it there (`update`) or here.
    update, schedule, ema, callbacks : as in `slipstream.training.loop.train`.
    seed : of everything random, simulation of a problem included.
    folder, resume, force, save_every, show : as in `slipstream.training.loop.train`.

    Raises
    ------
    DivergedTraining : the loss left finite numbers or stayed too high; the last good weights are put back.
    InputError : no budget or two, data that do not fit the objective, a folder of another training.
    """
    if update is not None and lr is not None:
        raise InputError("Give the learning rate to the update or to train, not to both.")
    return loop.train(
        module,
        as_source(data, module, objective, batch, seed),
        objective,
        minutes=minutes,
        steps=steps,
        update=update or Descent(1e-3 if lr is None else lr),
        schedule=schedule,
        ema=ema,
        callbacks=callbacks,
        seed=seed,
        folder=folder,
        resume=resume,
        force=force,
        save_every=save_every,
        show=show,
    )
