"""The one place where the command line touches the Python interface: rooms, base classes and functions, imported on demand."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipstream.app.names import public_classes

TABLE = "acceleration.json"
"""Lies in the folder of an accelerated model."""
ROOMS = (
    "problems",
    "operators",
    "steppers",
    "objectives",
    "data",
    "training",
    "compression",
    "equations",
    "solvers",
    "solvers.linear",
)


@dataclass(frozen=True)
class House:
    """What recipes and commands need of slipstream. Tests bring a small one of their own.

    Parameters
    ----------
    rooms : room -> short name -> class; a room within a room by both names, ``"solvers.linear"``.
    problem, stepper, objective, operator : the general words that a recipe's classes must be.
    train : ``(stepper, data, objective, *, folder, ...)``; continues what it finds in `folder`; the result has the
        ``seconds`` of all continuations.
    verify : ``(stepper, problem or data, *, rivals, training_seconds, ...)``; an assessment with ``verdict``, ``save(path)``, and
        a Rich view.
    accelerate : ``(stepper, problem or data, *, say, ...)``; a stepper with its table as ``acceleration``, which has a Rich view,
        ``sentence``, ``plain()`` and ``save(path)``.
    export : ``(stepper, path, problem or data, *, batch)``; what was written, with a ``sentence``.
    pose : the problem that data pose, for recipes with ``data`` in place of a problem.
    budget : ``(problem, steppers)``; how fast the classical solver is, as text, and whether training can pay (``worthwhile``).
    load : a saved stepper from its folder, classes of other packages only where allowed.
    filled : what steppers supply when they call an operator factory.
    kept_from_train, kept_from_verify, kept_from_accelerate : options that the command line sets by itself. A recipe must not give
        them, nor the first three arguments of `train`, nor the first two of `verify` and `accelerate`.
    """

    rooms: Mapping[str, Mapping[str, type]]
    problem: type
    stepper: type
    objective: type
    operator: type
    train: Callable[..., Any]
    verify: Callable[..., Any]
    accelerate: Callable[..., Any]
    export: Callable[..., Any]
    pose: Callable[[Any], Any]
    budget: Callable[..., Any]
    load: Callable[[str, Collection[str]], Any]
    filled: tuple[str, ...] = ("in_channels", "out_channels", "num_dims", "num_scalars")
    kept_from_train: tuple[str, ...] = ("folder", "resume", "force")
    kept_from_verify: tuple[str, ...] = ("rivals", "training_seconds")
    kept_from_accelerate: tuple[str, ...] = ("say",)

    @property
    def given_to_train(self) -> tuple[str, ...]:
        return (*list(inspect.signature(self.train).parameters)[:3], *self.kept_from_train)

    @property
    def given_to_verify(self) -> tuple[str, ...]:
        return (*list(inspect.signature(self.verify).parameters)[:2], *self.kept_from_verify)

    @property
    def given_to_accelerate(self) -> tuple[str, ...]:
        return (*list(inspect.signature(self.accelerate).parameters)[:2], *self.kept_from_accelerate)


def slipstream_house() -> House:
    """The real one. Imports torch and every room."""
    import slipstream as ss
    from slipstream.assessment.budget import budget
    from slipstream.data import Dataset
    from slipstream.objectives.objective import Objective
    from slipstream.operators.operator import Operator
    from slipstream.problems import Problem, Recorded
    from slipstream.stepper import Stepper

    rooms = {room: public_classes(importlib.import_module(f"slipstream.{room}")) for room in ROOMS}
    return House(
        rooms=rooms,
        problem=Problem,
        stepper=Stepper,
        objective=Objective,
        operator=Operator,
        train=ss.train,
        verify=ss.verify,
        accelerate=ss.accelerate,
        export=ss.export,
        pose=lambda data: Recorded.of(data.trajectories() if isinstance(data, Dataset) else data),
        budget=budget,
        load=load_stepper,
    )


def load_stepper(folder: str, allow: Collection[str] = ()) -> Any:
    """A saved stepper; an accelerated one with the table that was written beside it."""
    from slipstream.assessment.tried import Acceleration
    from slipstream.compression.accelerated import Accelerated
    from slipstream.stepper import Stepper

    model = Stepper.from_pretrained(folder, allow)
    table = Path(folder) / TABLE
    if isinstance(model, Accelerated) and table.exists():
        model.acceleration = Acceleration.load(table)
    return model
