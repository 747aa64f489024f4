"""Commands, their options and their help: data, so that ``--help`` imports nothing else.

To add a command: one entry here, one function of that name in `slipstream.app.commands`.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from slipstream.app.names import nearest
from slipstream.errors import InputError

WIDTH = 96


@dataclass(frozen=True)
class Option:
    """One option. Without `metavar` it is a switch."""

    flag: str
    metavar: str
    text: str
    kind: Callable[[str], Any] = str
    repeated: bool = False

    @property
    def name(self) -> str:
        return self.flag.lstrip("-").replace("-", "_").replace("import", "allow")


@dataclass(frozen=True)
class Command:
    """One command: what it takes, says and which function does it."""

    name: str
    function: str
    takes: str
    summary: str
    text: str
    examples: tuple[tuple[str, str], ...]
    arguments: tuple[int, int | None] = (1, None)
    options: tuple[Option, ...] = ()


TRACEBACK = Option("--traceback", "", "show where in the code an error arose")
IMPORT = Option(
    "--import", "PACKAGE", "let the recipe or model name classes of this package, and so run its code", repeated=True
)
FORCE = Option("--force", "", "go on although the recipe has changed; stages that depend on the change are done again")
ANYWAY = Option("--anyway", "", "train although the budget check says that the classical solver cannot be beaten by 2")
OUT = Option("--out", "FOLDER", "the run folder; default runs/NAME, with the name in the recipe")

OVERRIDES = (
    "key=value sets any value of the recipe by its dotted key: problem.reynolds=200, "
    "models.label-free.train.minutes=1, verify.runs=8. The value is YAML."
)

COMMANDS = {
    command.name: command
    for command in (
        Command(
            "build",
            "build",
            "RECIPE ... [key=value ...]",
            "simulate, train and verify what recipes describe",
            "Checks every recipe whole, says what a network may cost at the most, simulates with the classical solver, "
            "trains each model, rolls them out on unseen runs, and writes a report. Each stage is kept in the run "
            "folder: after Ctrl-C or a crash the same "
            "command continues.",
            (
                ("slipstream build examples/kolmogorov.yaml", ""),
                (
                    "slipstream build examples/kolmogorov.yaml problem.reynolds=200 --out runs/re200",
                    "another flow, beside the first",
                ),
            ),
            options=(OUT, ANYWAY, FORCE, IMPORT),
        ),
        Command(
            "simulate",
            "simulate",
            "RECIPE|PROBLEM [key=value ...]",
            "run the classical solver of a problem",
            "Stores runs of a problem, from a recipe or by the problem's name. A store that was interrupted is continued "
            "by the same command.",
            (
                ("slipstream simulate examples/kolmogorov.yaml", "into the run folder of the recipe"),
                (
                    "slipstream simulate KolmogorovFlow problem.reynolds=200 --runs 32 --steps 60 --out flow.zarr",
                    "into a store of its own",
                ),
            ),
            options=(
                Option("--runs", "N", "how many runs; the same as simulate.runs=N", int),
                Option("--steps", "N", "how many frames a run; the same as simulate.steps=N", int),
                Option("--seed", "N", "of the random initial states; the same as simulate.seed=N", int),
                Option(
                    "--out",
                    "STORE",
                    "the Zarr store to write; default: for a recipe frames.zarr in its run folder, for a problem PROBLEM.zarr",
                ),
                FORCE,
                IMPORT,
            ),
        ),
        Command(
            "train",
            "train",
            "RECIPE [key=value ...]",
            "train the models of a recipe",
            "Does the first stages of build: simulates what is missing, then trains each model. Interrupted training is "
            "continued exactly by the same command.",
            (("slipstream train examples/kolmogorov.yaml models.label-free.train.minutes=1", ""),),
            options=(OUT, ANYWAY, FORCE, IMPORT),
        ),
        Command(
            "verify",
            "verify",
            "FOLDER [key=value ...]",
            "measure trained models on unseen runs",
            "Takes a run folder or the folder of one saved model, rolls the models out, compares them with the classical "
            "solver at equal error, and writes a report.",
            (
                ("slipstream verify runs/kolmogorov verify.runs=16", "more unseen runs"),
                ("slipstream verify runs/kolmogorov problem.reynolds=150", "a flow that it was not trained on"),
                (
                    "slipstream verify runs/kolmogorov/models/label-free",
                    "one saved model, on the problem that it was made for",
                ),
            ),
            options=(
                Option(
                    "--recipe",
                    "RECIPE",
                    "what to verify on; default: the recipe of the run, or the problem that the model carries",
                ),
                Option("--out", "FILE", "the report to write; default verify.html in FOLDER"),
                IMPORT,
            ),
        ),
        Command(
            "list",
            "list_",
            "[ROOM|CLASS]",
            "show which problems, operators, steppers, objectives ... there are",
            "Without an argument, every class that a recipe can name. With a room, that room. With a class, what it is "
            "and which arguments it takes.",
            (
                ("slipstream list problems", ""),
                ("slipstream list KolmogorovFlow", "its arguments and defaults"),
            ),
            arguments=(0, 1),
        ),
        Command(
            "study",
            "study",
            "[NAME]",
            "run the study of a method, in a clone of the repository",
            "Without a name, lists the studies under ./studies. A study writes its evidence to studies/results.",
            (("slipstream study neuralstagger --quick", ""),),
            arguments=(0, 1),
            options=(Option("--quick", "", "the same question in 3 minutes, with wide bars"),),
        ),
    )
}


def overview() -> str:
    """What ``slipstream --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {c.name:<{width}}  {c.summary}" for c in COMMANDS.values()]
    return "\n".join(
        [
            "slipstream turns a physical problem into a small, fast, verified neural solver.",
            "",
            "usage: slipstream COMMAND ...",
            "",
            "commands:",
            *lines,
            "",
            "  slipstream COMMAND --help   what it does, examples, options",
            "  slipstream --version",
            "",
            "exit code: 0 done, 1 failed, 2 input refused before any work, 130 stopped with Ctrl-C",
            "",
            "start with:",
            "  slipstream build examples/kolmogorov.yaml",
        ]
    )


def page(command: Command) -> str:
    """What ``slipstream COMMAND --help`` prints."""
    options = (*command.options, TRACEBACK)
    labels = [f"{o.flag} {o.metavar}".strip() for o in options]
    width = max(map(len, labels)) + 4
    rows: list[str] = []
    for label, option in zip(labels, options, strict=True):
        text = option.text + (" (may be given several times)" if option.repeated else "")
        rows += textwrap.wrap(
            text, WIDTH, initial_indent=f"  {label}".ljust(width), subsequent_indent=" " * width, break_long_words=False
        )
    examples = [f"  {line}" + (f"\n      {note}" if note else "") for line, note in command.examples]
    return "\n".join(
        [
            f"usage: slipstream {command.name} {command.takes}{' [options]' if options else ''}",
            "",
            f"{command.summary[0].upper()}{command.summary[1:]}.",
            "",
            *_wrapped(command.text),
            "",
            *([*_wrapped(OVERRIDES), ""] if "key=value" in command.takes else []),
            "examples:",
            *examples,
            "",
            "options:",
            *rows,
        ]
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def parse(command: Command, arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command; `words` holds what stands free. InputError names the nearest right option."""
    parser = _Parser(prog=f"slipstream {command.name}", add_help=False, allow_abbrev=False)
    parser.add_argument("words", nargs="*")
    options = (*command.options, TRACEBACK)
    for option in options:
        how: dict[str, Any] = {"dest": option.name}
        if not option.metavar:
            how |= {"action": "store_true"}
        elif option.repeated:
            how |= {"action": "append", "default": []}
        else:
            how |= {"type": option.kind}
        parser.add_argument(option.flag, **how)
    found, unknown = parser.parse_known_intermixed_args(list(arguments))
    if unknown:
        flag = unknown[0].partition("=")[0]
        flags = [o.flag for o in options]
        raise InputError(
            f"slipstream {command.name} has no option {flag}.{nearest(flag, flags)} It has: {', '.join(flags)}."
        )
    least, most = command.arguments
    if not least <= len(found.words) <= (most if most is not None else len(found.words)):
        raise InputError(f"slipstream {command.name} takes {command.takes}; got {' '.join(found.words) or 'nothing'}.")
    return found
