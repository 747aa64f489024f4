"""Small rooms with the shapes of the real ones; every piece of work leaves a line in ./journal, and can be made to die."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from slipstream.app.house import House
from slipstream.errors import DivergedTraining, InputError
from slipstream.objectives.objective import Loss, Objective
from slipstream.operators.operator import Operator, OperatorFactory
from slipstream.stepper import Stepper
from slipstream.training.update import Descent


def work(line: str) -> None:
    """Note a piece of work; die, stop or wait here if the environment says so."""
    with open("journal", "a") as file:
        file.write(line + "\n")
    if os.environ.get("FAKE_DIE") == line:
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("FAKE_STOP") == line:
        raise KeyboardInterrupt
    if os.environ.get("FAKE_DIVERGE") == line:
        raise DivergedTraining("the loss left finite numbers at step 3.")
    while os.environ.get("FAKE_WAIT") == line:
        time.sleep(0.05)


def keep(self: Any, arguments: Mapping[str, Any]) -> None:
    """Every constructor argument under its own name, and all of them together."""
    self.arguments = {k: v for k, v in arguments.items() if k not in ("self", "__class__")}
    for name, value in self.arguments.items():
        setattr(self, name, value)


class Problem:
    """The general word."""

    def simulate(self, runs: int, steps: int, seed: int = 0, out: str | Path | None = None) -> str:
        store = Path(out)
        store.mkdir(exist_ok=True)
        for i in range(runs):
            if not (store / str(i)).exists():
                work(f"simulate {i}")
                (store / str(i)).write_text(f"{steps} {seed}")
        return f"frames of {store.name}"


@dataclass
class Forcing:
    """A shear force."""

    amplitude: float = 1.0
    kind: Literal["shear", "stir"] = "shear"


class Swirl(Problem):
    """Turbulence in a box.

    It swirls.
    """

    def __init__(
        self,
        num_points: int,
        reynolds: float | Sequence[float] = 100.0,
        extent: tuple[float, float] = (1.0, 1.0),
        forcing: Forcing | None = None,
        dtype: torch.dtype | None = None,
        viscosity: float | Tensor | None = None,
        periodic: bool = True,
        label: str = "",
        notes: Any = None,
        levels: dict[str, int] | None = None,
        hook: Callable[..., object] | None = None,
    ) -> None:
        if num_points % 2:
            raise InputError(f"Swirl expects an even num_points; got {num_points}.")
        keep(self, locals())


class Decay(Problem):
    """Turbulence left alone."""

    def __init__(self, num_points: int = 8) -> None:
        self.num_points = num_points


class Posed(Problem):
    """What data say of themselves."""

    def __init__(self, source: str) -> None:
        keep(self, locals())

    @classmethod
    def of(cls, data: Any) -> Posed:
        if not str(data).isascii():
            raise InputError("the data have a letter that nobody can read.")
        return cls(str(data))


class Net(Operator):
    """A small network."""

    def __init__(
        self, in_channels: int, out_channels: int, num_dims: int, hidden_channels: int = 8, num_scalars: int = 0
    ) -> None:
        super().__init__()
        keep(self, locals())
        self.weight = nn.Parameter(torch.randn(hidden_channels))


class Spectrum(Operator):
    """A network that must know its modes."""

    def __init__(self, n_modes: tuple[int, ...], in_channels: int, out_channels: int) -> None:
        super().__init__()


class Jump(Stepper):
    """Jumps over several intervals."""

    def __init__(self, operator: OperatorFactory, problem: Problem, space: int = 1) -> None:
        super().__init__()
        keep(self, locals())
        self.net = operator(in_channels=1, out_channels=1, num_dims=2)


class Plain(Stepper):
    """Needs nothing."""

    def __init__(self, operator: OperatorFactory, bound: float = 1.0) -> None:
        super().__init__()
        keep(self, locals())
        self.net = operator(in_channels=1, out_channels=1, num_dims=1)


class Careless(Stepper):
    """Forgets an argument, so it cannot be saved."""

    def __init__(self, bound: float = 1.0) -> None:
        super().__init__()


class Residual(Objective):
    """What the equation leaves over."""

    def __init__(self, problem: Problem | None = None) -> None:
        keep(self, locals())

    def __call__(self, module: nn.Module, window: Any, generator: torch.Generator) -> Loss:
        return Loss(torch.tensor(2.0))


class Labels(Objective):
    """Compares with labels."""

    def __init__(self, depth: int = 1) -> None:
        self.depth = depth

    def frames_needed(self, module: nn.Module) -> tuple[int, int]:
        return 1, self.depth

    def __call__(self, module: nn.Module, window: Any, generator: torch.Generator) -> Loss:
        return Loss(torch.tensor(float(self.depth)))


class Table:
    """Numbers in a file."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.text = self.path.read_text()

    def __str__(self) -> str:
        return f"table {self.text.strip()}"


@dataclass
class Assessment:
    verdict: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    def __rich__(self) -> str:
        return self.verdict

    def save(self, path: Path) -> None:
        Path(path).write_text(json.dumps(self.figures))


def train(
    module: Stepper,
    data: Any,
    objective: Objective,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    update: Descent | None = None,
    seed: int = 0,
    folder: str | os.PathLike | None = None,
    resume: bool = True,
    force: bool = False,
) -> SimpleNamespace:
    """Every step takes an hour, as it says."""
    name = Path(folder).name
    Path(folder).mkdir(parents=True, exist_ok=True)
    first = len(list(Path(folder).iterdir()))
    with open("journal", "a") as file:
        file.write(f"train {name} on {data if not isinstance(data, Problem) else 'problem'} from {first}\n")
    for step in range(first, steps or 1):
        work(f"train {name} step {step}")
        (Path(folder) / str(step)).touch()
    return SimpleNamespace(seconds=3600.0 * (steps or 1))


def verify(
    stepper: Stepper,
    data: Any,
    *,
    rivals: Mapping[str, Stepper] | None = None,
    runs: int = 4,
    steps: int = 20,
    training_seconds: float | None = None,
) -> Assessment:
    against = f" against {' '.join(rivals)}" if rivals else ""
    work(
        f"verify {stepper.seen}{against} on {data if not isinstance(data, Problem) else type(data).__name__} runs {runs}"
    )
    figures = {"runs": runs, "seconds": training_seconds, "arguments": str(getattr(data, "arguments", ""))}
    return Assessment("The classical solver wins.", figures)


@dataclass
class Acceleration:
    sentence: str

    def __rich__(self) -> str:
        return f"table: {self.sentence}"

    def save(self, path: Path) -> None:
        Path(path).write_text(json.dumps({"sentence": self.sentence}))


def accelerate(
    stepper: Stepper,
    data: Any = None,
    *,
    max_error: float = 0.01,
    batch: int = 1,
    threads: int = 1,
    steps: int = 20,
    runs: int = 4,
    say: Callable[[str], None] | None = None,
) -> Stepper:
    """Twice as fast, as it says."""
    on = type(data).__name__ if isinstance(data, Problem) else data
    work(f"accelerate {stepper.seen} on {on} within {max_error:g}, batch {batch}, threads {threads}, {runs} x {steps}")
    say("half: kept")
    stepper.acceleration = Acceleration(f"{stepper.seen} is twice as fast.")
    return stepper


def export(stepper: Stepper, path: Path, data: Any = None, *, batch: int | None = None) -> Acceleration:
    """A file that holds what was asked for."""
    work(f"export {stepper.seen} for {batch or 'any'} on {data}")
    Path(path).write_text("graph")
    return Acceleration(f"{stepper.seen} is written.")


class Budget:
    """What the classical solver leaves to be won; nothing if the environment says so."""

    @property
    def worthwhile(self) -> bool:
        return "FAKE_LOST" not in os.environ

    def __str__(self) -> str:
        return "Budget: the ratio is at most 5." if self.worthwhile else "Budget: the ratio is at most 0.1."


def load(folder: str, allow: Any = ()) -> Stepper:
    stepper = Stepper.from_pretrained(folder, allow=("fake_house", *allow))
    stepper.seen = Path(folder).name
    return stepper


def house() -> House:
    return House(
        rooms={
            "problems": {"Swirl": Swirl, "Decay": Decay, "Problem": Problem, "Setting": Forcing},
            "operators": {"Net": Net, "Spectrum": Spectrum},
            "steppers": {"Jump": Jump, "Plain": Plain, "Careless": Careless},
            "objectives": {"Residual": Residual, "Labels": Labels},
            "data": {"Table": Table},
            "equations": {"Forcing": Forcing},
            "training": {"Descent": Descent},
        },
        problem=Problem,
        stepper=Stepper,
        objective=Objective,
        operator=Operator,
        train=train,
        verify=verify,
        accelerate=accelerate,
        export=export,
        pose=Posed.of,
        budget=lambda problem, steppers: Budget(),
        load=load,
    )
