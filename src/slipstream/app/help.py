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
            "accelerate",
            "accelerate",
            "FOLDER",
            "make a saved model faster, within an error",
            "Tries memory layout, bfloat16, exact reformulations, compilation, int8 and ONNX Runtime, alone and combined, on the model "
            "in FOLDER; judges them by whole rollouts, times them by turns with the original, and saves the fastest that keeps the error, "
            "with the table of everything that was tried. What wins at batch 1 may lose at 16: say which job counts.",
            (
                ("slipstream accelerate runs/kolmogorov/models/label-free", "one run at a time, on one thread"),
                (
                    "slipstream accelerate runs/kolmogorov/models/label-free --batch 16 --threads 2 --out fast/",
                    "sixteen at a time",
                ),
            ),
            arguments=(1, 1),
            options=(
                Option(
                    "--max-error",
                    "FRACTION",
                    "the most that the rollout error may grow; default 0.01, one percent of the field's norm",
                    float,
                ),
                Option("--batch", "N", "runs at a time in the job that is timed; default 1", int),
                Option("--threads", "N", "that the job may use; default 1", int),
                Option("--steps", "N", "frames of the rollouts that judge; default 20", int),
                Option("--runs", "N", "how many rollouts judge; default 4", int),
                Option(
                    "--data",
                    "STORE",
                    "true runs to judge on; default: fresh ones of the problem that the model carries",
                ),
                Option("--out", "FOLDER", "where to save the faster model; default FOLDER-fast"),
                IMPORT,
            ),
        ),
        Command(
            "export",
            "export",
            "FOLDER",
            "write a saved model as a file that other programs run",
            "Writes one call of the model in FOLDER, physical units in and out, as a graph for torch.export (.pt2) or ONNX (.onnx), "
            "checks its numbers against the model on states it has not seen, and says in a .json beside it what goes in and comes out.",
            (
                ("slipstream export runs/kolmogorov/models/label-free", "label-free.pt2, for C++ and Python"),
                (
                    "slipstream export runs/kolmogorov/models/label-free --out fast.onnx --batch 1",
                    "for ONNX Runtime, one run at a time",
                ),
            ),
            arguments=(1, 1),
            options=(
                Option("--out", "FILE", "where; ends in .pt2 or .onnx. Default: FOLDER.pt2, beside FOLDER"),
                Option("--batch", "N", "a fixed number of runs a call; default: any", int),
                Option("--data", "STORE", "states to check it on; default: fresh ones of the problem that it carries"),
                IMPORT,
            ),
        ),
        Command(
            "fit",
            "fit",
            "FILE",
            "make the best model of your own data",
            "Opens a file of fields in time (or of steady pairs), says what it took it for, trains a small network on a part of it, and "
            "compares it with a linear model and with persistence on a part that none has seen. Keeps the best, and the report. Where "
            "the file can be read in more than one way, it says which; the options settle it.",
            (
                ("slipstream fit measurements.nc --minutes 5", ""),
                (
                    "slipstream fit wave.npz --axes 't x' --periodic x --out fits/wave",
                    "a layout that the file does not tell",
                ),
            ),
            arguments=(1, 1),
            options=(
                Option("--minutes", "N", "everything together; default: 5", float),
                Option("--out", "FOLDER", "where model and report go; default: fits/NAME, with the name of the file"),
                Option(
                    "--axes", "NAMES", "the dimensions of the largest array, in the file's order: 'run t x y channel'"
                ),
                Option("--channels", "NAMES", "which fields"),
                Option("--time", "NAME", "which dimension is time"),
                Option("--periodic", "NAMES", "which axes are periodic"),
                Option("--interval", "T", "the time between frames, against what the file says", float),
                Option("--missing", "HOW", "'interpolate' fills gaps along time"),
                Option("--seed", "N", "of the split and of the training; default: 0", int),
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
            "answer the question of a study, in a clone of the repository",
            "Without a name, lists the studies: their questions, and what came out. A study runs its arms one by one, each in a process of "
            "its own, keeps every one that is done, and writes studies/results/NAME.json and .png at the end. The same command "
            "continues; what the code of an arm no longer stands for is done again.",
            (
                ("slipstream study", ""),
                ("slipstream study neuralstagger --quick", "a look at it, in three minutes"),
                ("slipstream study neuralstagger --threads 1", "the evidence"),
            ),
            arguments=(0, 1),
            options=(
                Option(
                    "--quick",
                    "",
                    "the same question in 3 minutes, with wide bars, beside the evidence: studies/.cache/quick",
                ),
                Option("--long", "", "the longer version that some studies have, in hours: studies/.cache/long"),
                Option("--arms", "A,B", "only these arms; the evidence is written when all arms are there"),
                Option("--threads", "N", "of every job; default: all cores", int),
                Option("--fresh", "", "do again what was done before"),
                Option("--dirty", "", "write evidence of code that is in no commit, and mark it so"),
            ),
        ),
        Command(
            "cite",
            "cite",
            "FOLDER",
            "print the papers behind what a run or a saved model used, as BibTeX",
            "Takes a run folder or the folder of a saved model, and prints what its classes say of their sources: problem, "
            "equation, solver, steppers, operators, objectives.",
            (
                ("slipstream cite runs/kolmogorov", ""),
                ("slipstream cite runs/kolmogorov/models/label-free", "behind one model"),
            ),
            arguments=(1, 1),
            options=(IMPORT,),
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
