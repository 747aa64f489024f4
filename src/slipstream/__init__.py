"""slipstream: a physical problem becomes a small, fast, verified neural solver.

Everything a user needs hangs on this module and is imported when it is first used, so that ``slipstream --help`` is quick::

    import slipstream as ss
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slipstream import (
        assessment,
        compression,
        data,
        equations,
        objectives,
        operators,
        problems,
        solvers,
        steppers,
        training,
    )
    from slipstream.assessment import accelerate, export, fit, verify
    from slipstream.grids import Grid
    from slipstream.meshes import Mesh
    from slipstream.stepper import Stepper
    from slipstream.steppers import rollout
    from slipstream.training import train
    from slipstream.trajectories import Trajectories

__version__ = "0.1.0"

_ROOMS = (
    "assessment",
    "compression",
    "data",
    "equations",
    "objectives",
    "operators",
    "problems",
    "solvers",
    "steppers",
    "training",
)
_NAMES = {
    "Grid": "grids",
    "Mesh": "meshes",
    "Stepper": "stepper",
    "Trajectories": "trajectories",
    "rollout": "steppers",
    "train": "training",
    "accelerate": "assessment",
    "export": "assessment",
    "fit": "assessment",
    "verify": "assessment",
}

__all__ = [
    "Grid",
    "Mesh",
    "Stepper",
    "Trajectories",
    "accelerate",
    "assessment",
    "compression",
    "data",
    "equations",
    "export",
    "fit",
    "objectives",
    "operators",
    "problems",
    "rollout",
    "solvers",
    "steppers",
    "train",
    "training",
    "verify",
]


def __getattr__(name: str):
    import importlib

    if name in _ROOMS:
        return importlib.import_module(f"slipstream.{name}")
    if name in _NAMES:
        value = getattr(importlib.import_module(f"slipstream.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'slipstream' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
