"""The training loop: the one place where modules are trained."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from slipstream.data.choose import Data, as_source
from slipstream.data.source import Source
from slipstream.errors import DivergedTraining, InputError
from slipstream.objectives.objective import Objective
from slipstream.pretrained import Pretrained, path_of
from slipstream.training.callbacks import Callback, Run
from slipstream.training.checkpoint import Checkpoints, differences, identity
from slipstream.training.divergence import Guard
from slipstream.training.ema import EMA
from slipstream.training.logs import Board, Log, Row, Screen, duration, told
from slipstream.training.meter import Meter
from slipstream.training.processes import joined
from slipstream.training.randomness import random_state, seed_all, set_random_state, undisturbed
from slipstream.training.schedules import Cosine, Schedule
from slipstream.training.signals import Signals
from slipstream.training.update import Descent, Update

GLANCE = 0.25
"""Seconds between looks at the losses for the screen (and for the guard) between rows of the log."""


@dataclass(frozen=True)
class Training:
    """What a training came to.

    `steps` and `seconds` count all continuations, `history` holds the rows of the log, `reason` says why it ended, and `folder` keeps
    its state (None: nothing was kept).
    """

    steps: int
    seconds: float
    history: list[Row]
    reason: str
    folder: Path | None


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
    guard: Guard | None = None,
    callbacks: Sequence[Callback] = (),
    seed: int = 0,
    folder: str | os.PathLike | None = None,
    resume: bool = True,
    force: bool = False,
    save_every: float = 60.0,
    log_every: int = 10,
    show: bool = True,
) -> Training:
    """Train a module in place, step by step, until the budget is spent: `slipstream.train`.

    With a folder, a training that was stopped in any way (Ctrl-C, SIGTERM, ``kill -9``, power) goes on when the same call is made again;
    on a CPU and with a budget in steps it ends with the same weights to the bit. Ctrl-C and SIGTERM finish the step and save first;
    a second Ctrl-C does not wait. Afterwards the module holds the averaged weights if `ema` is given, else its last ones; its modes and
    the caller's global random generators are as they were.

    Under torchrun every process draws its own windows, gradients are averaged, and the first process alone writes.

    Parameters
    ----------
    module : a stepper, or any module that the objective understands.
    data : a problem, trajectories, a data set, a store or its path, or a source; see `slipstream.data.as_source`.
    objective : what is minimised. Objectives add and scale: ``PhysicsResidual() + 0.1 * Supervised()``.
    minutes, steps : the budget, exactly one of them. Minutes count everything from the first step on, compiling and saving too, over
        all continuations.
    batch : windows a step; a source brings its own.
    lr : highest learning rate of the default update (1e-3); another `update` has its own.
    update : how a step changes the module; None is ``Descent(lr)``.
    schedule : the learning rate's factor as a function of progress; None is ``Cosine()``.
    ema : averages the weights; None does not.
    guard : what counts as a divergence; None is ``Guard()``.
    callbacks : called after every step, in order.
    seed : of every random generator, and of what a problem is simulated with; the generators that source and objective are given are
        on the CPU.
    folder : keeps state (two generations), ``log.csv`` and TensorBoard's files; None keeps nothing.
    resume : go on from the state in the folder. False refuses a folder that has one, unless `force` says to remove it.
    force : go on although the training was begun with other settings (a longer budget, say). The new ones hold from here on: an update,
        source, seed or callbacks that differ start afresh, weights and average go on.
    save_every : seconds between saves. log_every : steps between rows of the log, which are means over those steps.
    show : a bar on a terminal, plain lines elsewhere.

    Raises
    ------
    DivergedTraining : the loss or the weights left finite numbers, or the loss stayed too high; the module holds the last good weights.
    InputError : no budget or two, data or a module that do not fit the objective, a folder with a training of other settings.
    StoreError : the folder cannot be used, or belongs to another process, or holds no whole state.
    KeyboardInterrupt : Ctrl-C, after saving.
    """
    if (minutes is None) == (steps is None) or not (minutes or steps or 0) > 0:  # NaN is no budget
        raise InputError(f"Give a budget, either minutes= or steps=, above 0; got minutes={minutes}, steps={steps}.")
    if log_every < 1 or batch < 1 or not save_every >= 0:
        raise InputError(
            f"batch and log_every are >= 1, save_every is >= 0 seconds; got batch={batch}, log_every={log_every}, save_every={save_every}."
        )
    if update is not None and lr is not None:
        raise InputError("Give the learning rate to the update or to train, not to both.")
    objective.check(module)
    update = (Descent() if lr is None else Descent(lr)) if update is None else update
    schedule = Cosine() if schedule is None else schedule
    guard = Guard() if guard is None else guard
    folder = None if folder is None else Path(folder)
    generator = torch.Generator()
    run = Run(module, ema)

    with ExitStack() as stack:
        stack.enter_context(undisturbed())
        processes = joined()
        checkpoints = Checkpoints(folder) if folder is not None else None
        if checkpoints is not None and processes.first:
            stack.enter_context(checkpoints.locked())
        source = as_source(data, module, objective, batch, seed)
        stack.callback(source.close)
        settings = {
            "budget": {"minutes": minutes} if steps is None else {"steps": steps},
            "seed": seed,
            "module": identity(module) if isinstance(module, Pretrained) else path_of(type(module)),
            "weights": sum(p.numel() for p in module.parameters()),
            "source": path_of(type(source)),  # it may hold gigabytes; its state_dict says what else must agree
            "objective": identity(objective),
            "update": identity(update),
            "schedule": identity(schedule),
            "ema": identity(ema),
            "callbacks": [path_of(type(c)) for c in callbacks],
            "processes": processes.world,
        }

        seed_all(seed, processes.rank, generator)
        processes.equalise(module)
        guard.reset()
        update.prepare(module)
        if ema is not None:
            ema.prepare(module)
        meter = Meter(guard, processes)

        def common() -> dict[str, Any]:
            """What all processes have alike."""
            average = None if ema is None else ema.state_dict()
            return {"module": module.state_dict(), "update": update.state_dict(), "ema": average}

        def own() -> dict[str, Any]:
            """What every process has for itself."""
            return {
                "source": source.state_dict(),
                "callbacks": [c.state_dict() for c in callbacks],
                "random": random_state(generator),
            }

        def save() -> None:
            shared = common()
            processes.check_equal({**shared, "module": dict(module.named_parameters())}, run.step)
            of_each = processes.collect(own())
            if checkpoints is not None and processes.first:
                log.sync()
                counters = {"step": run.step, "seconds": run.seconds, "progress": run.progress, "noted": run.noted}
                state = {"settings": settings, **counters, "guard": guard.state_dict(), "meter": meter.sums, **shared}
                checkpoints.write(run.step, {**state, "processes": of_each})

        saved, remark = None, ""
        if checkpoints is not None:
            if processes.first:
                saved, remark = _find(checkpoints, settings, resume, force)
            saved = processes.spread(saved)
        if saved is not None:
            run.step, run.seconds, run.noted, meter.sums = (saved[k] for k in ("step", "seconds", "noted", "meter"))
            unchanged = {name for name, value in settings.items() if saved["settings"].get(name) == value}
            module.load_state_dict(saved["module"])
            guard.load_state_dict(saved["guard"])
            if "update" in unchanged:
                update.load_state_dict(saved["update"])
            if ema is not None and saved["ema"] is not None:
                ema.load_state_dict(saved["ema"])
            elif ema is not None:  # a new average begins with the weights that are there, not with random ones
                ema.prepare(module)
            if processes.rank < len(saved["processes"]):
                mine = saved["processes"][processes.rank]
                if "source" in unchanged:
                    remark += _go_on(source, mine["source"], force)
                if "callbacks" in unchanged:
                    for callback, state in zip(callbacks, mine["callbacks"], strict=True):
                        callback.load_state_dict(state)
                if "seed" in unchanged:
                    set_random_state(mine["random"], generator)

        place = folder if processes.first else None
        log = Log(None if place is None else place / "log.csv", after=run.step)
        board = stack.enter_context(closing(Board(place, after=run.step)))
        screen = stack.enter_context(closing(Screen(show and processes.first)))
        if remark:
            screen.say(remark)
        signals = stack.enter_context(Signals())
        stack.callback(_set_modes, [(m, m.training) for m in module.modules()])
        module.train()
        stack.enter_context(processes.averaging(module))

        def progress() -> float:
            return min(1.0, run.step / steps if steps is not None else run.seconds / (60 * minutes))  # type: ignore[operator]

        def stop_diverged(step: int, trouble: str) -> NoReturn:
            good_step, good = last_good
            module.load_state_dict(good)
            kept = f" The states in {folder} are from before." if folder is not None else ""
            raise DivergedTraining(
                f"Training diverged at step {step}: {trouble}. The module holds the weights of step {good_step} again.{kept} "
                f"Train with a lower learning rate, clipped gradients or a longer warm-up, and look at what the source gave."
            )

        def remember() -> tuple[int, dict[str, Tensor]]:
            """The weights as training would leave them now."""
            with nullcontext() if ema is None else ema.worn():
                return run.step, {name: value.clone() for name, value in module.state_dict().items()}

        last_good = remember()
        run.progress = progress()
        run.reason = source.ended()
        (emptied,) = processes.greatest(float(bool(run.reason)))
        number, ended = 0.0, run.progress >= 1.0 or emptied > 0
        saved_at = looked_at = run.seconds
        figures: dict[str, float] = {}
        start = perf_counter() - run.seconds
        while not ended:
            run.rate = schedule(run.progress)
            objective.on_progress(run.progress)
            source.on_progress(run.progress)
            window = source.next(generator)
            run.loss = loss = update.step(module, objective, window, generator, run.rate)
            run.step += 1
            if ema is not None:
                ema.step()
            source.feedback(window, None if loss.outputs is None else loss.outputs.detach(), loss.scores)
            meter.add(loss)
            for callback in callbacks:
                callback.on_step(run)
            if ended_by := source.ended():
                run.stop(ended_by)
            run.loss = loss = window = None  # type: ignore[assignment]  # or their memory lives through the next step

            # From here on all processes see the same clock and the same signals, and so decide alike.
            seconds = perf_counter() - start if processes.first else 0.0
            run.seconds, number, stopped = processes.greatest(seconds, float(signals.number), float(bool(run.reason)))
            run.progress = progress()
            finished = run.progress >= 1.0 or bool(stopped)
            ended = finished or number > 0
            row_due = finished or run.step % log_every == 0
            save_due = ended or run.seconds - saved_at >= save_every
            if row_due or save_due or run.seconds - looked_at >= GLANCE:
                looked_at = run.seconds
                if trouble := meter.look(run.step):
                    stop_diverged(*trouble)
                screen.update(run.progress, run.step, run.seconds, run.rate, meter.latest, told(figures))
            if row_due:
                figures = source.figures()
                row: Row = {
                    "step": run.step,
                    "seconds": run.seconds,
                    "rate": run.rate,
                    **meter.take_means(),
                    **figures,
                    **run.noted,
                }
                run.noted = {}
                log.append(row)
                board.append(row)
            if save_due and (ended or not guard.suspects):
                if broken := _not_finite(module):
                    stop_diverged(run.step, f"weights {broken} are not finite")
                saved_at = run.seconds
                last_good = remember()
                save()

        if ema is not None:
            ema.copy_to_module()
        processes.equalise(module)
        where = "Nothing was kept, for lack of a folder." if folder is None else f"The same call goes on from {folder}."
        if number:
            run.reason = f"stopped by {signal.Signals(int(number)).name}"
        reason = run.reason or ("the budget is spent" if run.progress >= 1.0 else "stopped on another process")
        sentence = f"Training ended after {run.step} step{'s' * (run.step != 1)} and {duration(run.seconds)}: {reason}."
        screen.say(f"{sentence} {where}" if number else sentence)

    number = number or signals.number  # it may have come after the last step
    if number == signal.SIGINT:
        raise KeyboardInterrupt(f"{sentence} {where}")
    if number:
        signal.raise_signal(signal.Signals(int(number)))  # all is saved: now it may do what the caller has set
    return Training(run.step, run.seconds, log.rows, reason, folder)


def _find(checkpoints: Checkpoints, settings: dict[str, Any], resume: bool, force: bool) -> tuple[Any, str]:
    """The state to go on from (None: there is none), and what is to be said about it."""
    if not resume:
        if checkpoints.generations() and not force:
            raise InputError(
                f"{checkpoints.folder} holds the state of a training. resume=True goes on from it; force=True removes it and starts again."
            )
        checkpoints.clear()
        return None, ""
    saved, remark = checkpoints.read()
    if saved is None:
        return None, ""
    changed = differences(saved["settings"], settings)
    if changed and not force:
        lines = "\n  ".join(changed)
        raise InputError(
            f"The training in {checkpoints.folder} (step {saved['step']}) was begun with other settings:\n  {lines}\n"
            "Go on with the old ones, give force=True to go on with the new ones, or give another folder."
        )
    return saved, f"{remark} Going on from step {saved['step']}.".strip()


def _go_on(source: Source, state: dict[str, Any], force: bool) -> str:
    """Let a source go on from its state; by force one that cannot starts afresh, and what it says to that is to be told."""
    try:
        source.load_state_dict(state)
    except InputError as error:
        if not force:
            raise
        return f" The source starts afresh: {error}"
    return ""


def _not_finite(module: nn.Module) -> str:
    """The names of the first weights that are not finite."""
    return ", ".join([name for name, p in module.named_parameters() if not p.isfinite().all()][:5])


def _set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        module.training = training
