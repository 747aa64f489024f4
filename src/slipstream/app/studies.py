"""Studies: what a script under ``studies/`` declares, and where the scripts are.

A study is one script. It asks a question, and its arms answer it with rows of plain values::

    from slipstream.app.studies import Study

    QUESTION = "Does a narrower network lose accuracy at equal training time?"
    SEEDS = (0, 1, 2)
    TABLE = {"error": "relative error after 40 steps"}  # key in the rows -> heading in the docs

    study = Study(QUESTION, SEEDS, budget={"minutes": 4.0}, quick={"minutes": 0.1}, table=TABLE)

    @study.arm(cases=[{"width": 8}, {"width": 32}])
    def unet(seed, minutes, width):
        ...
        return {"error": error}

    @study.effect("Four times the width halves the error.", at_most=0.5, quick=1.0)
    def halves(rows):
        return rows.mean("error", width=32) / rows.mean("error", width=8)

    @study.picture
    def picture(rows, figure):
        figure.subplots().plot([r["width"] for r in rows], [r["error"] for r in rows], "o")

``slipstream study NAME`` runs it. This module imports nothing heavy: an arm depends on what it loads itself.
"""

from __future__ import annotations

import ast
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slipstream.app.names import nearest
from slipstream.errors import InputError

Size = Literal["quick", "full", "long"]

GIVEN = ("seed", "folder")
"""Arguments that an arm gets by asking for them."""


class Rows(list[dict[str, Any]]):
    """The rows of all arms: each what an arm returned, with its name (``"arm"``), its arguments and its ``"arm_seconds"``."""

    def where(self, **values: Any) -> Rows:
        """Those rows that have all these values. InputError where there is none, because no claim may rest on nothing."""
        found = Rows(r for r in self if all(k in r and r[k] == v for k, v in values.items()))
        if not found:
            raise InputError(f"No row has {values}. Arms with rows: {sorted({r['arm'] for r in self})}.")
        return found

    def values(self, key: str, **where: Any) -> list[Any]:
        """One value a row."""
        found = self.where(**where)
        missing = [r["arm"] for r in found if key not in r]
        if missing:
            raise InputError(f"Rows of {sorted(set(missing))} have no {key!r}.{nearest(key, found[0])}")
        return [r[key] for r in found]

    def mean(self, key: str, **where: Any) -> float:
        """Mean over rows, and so over seeds."""
        found = self.values(key, **where)
        return math.fsum(found) / len(found) if all(map(math.isfinite, found)) else float(sum(found))


@dataclass(frozen=True)
class Arm:
    """A pure function of its arguments, the cases it is run for, and with how many of the seeds (None: all)."""

    function: Callable[..., Any]
    cases: tuple[dict[str, Any], ...]
    seeds: int | None

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def takes(self) -> list[str]:
        return list(inspect.signature(self.function).parameters)


@dataclass(frozen=True)
class Stated:
    """A claim before the rows are there: `measure` makes the number that is compared with the bar."""

    claim: str
    kind: str
    comparison: str
    bar: float
    quick_bar: float
    measure: Callable[[Rows], float]


class Study:
    """What a script declares.

    Parameters
    ----------
    question : one sentence; the script also has it as the literal ``QUESTION``.
    seeds : every arm that takes ``seed`` runs once for each of them.
    budget : name -> value of what arms may spend, such as minutes, steps or points. An arm gets those that it names as arguments.
    quick : values of the same names with which all is over in three minutes; only the first seed is run.
    long : values of the same names for a machine with hours to spend, where the study is worth them.
    table : key of the rows -> heading, for the page in the docs; the script also has it as the literal ``TABLE``.
    """

    def __init__(
        self,
        question: str,
        seeds: Sequence[int] = (0,),
        budget: Mapping[str, Any] | None = None,
        quick: Mapping[str, Any] | None = None,
        table: Mapping[str, str] | None = None,
        long: Mapping[str, Any] | None = None,
    ) -> None:
        self.question, self.seeds, self.table = question, tuple(seeds), dict(table or {})
        self.budget, self.quick, self.long = dict(budget or {}), dict(quick or {}), dict(long or {})
        self.arms: dict[str, Arm] = {}
        self.claims: list[Stated] = []
        self.draw: Callable[[Rows, Any], object] | None = None
        for size, values in (("quick", self.quick), ("long", self.long)):
            for name in values:
                if name not in self.budget:
                    raise InputError(f"{size} has {name!r}, which budget has not.{nearest(name, self.budget)}")
        if not self.seeds:
            raise InputError("A study has at least one seed.")

    def budget_of(self, size: Size) -> dict[str, Any]:
        """What arms may spend. InputError where the study has no longer version."""
        if size == "long" and not self.long:
            raise InputError("This study has no longer version: it declares no long=. Run it without --long.")
        return {**self.budget, **{"full": {}, "quick": self.quick, "long": self.long}[size]}

    def seeds_of(self, size: Size) -> tuple[int, ...]:
        """The seeds that are run."""
        return self.seeds[:1] if size == "quick" else self.seeds

    def arm(
        self, cases: Sequence[Mapping[str, Any]] = ({},), seeds: int | None = None
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare an arm: it returns one row or a list of rows, made of plain values, and depends on its arguments alone.

        An arm that takes ``folder`` gets one that outlives a kill: give it to `slipstream.train`, and a training goes on where it was.

        Parameters
        ----------
        cases : arguments to run it with, one mapping a case.
        seeds : run only with the first so many seeds (ablations); None is all of them.
        """

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            arm = Arm(function, tuple(dict(c) for c in cases), seeds)
            if arm.name in self.arms:
                raise InputError(f"Two arms are called {arm.name!r}; give each its own name.")
            parameters = inspect.signature(function).parameters
            for case in arm.cases:
                known = {*GIVEN, *self.budget, *case}
                lost = [n for n, p in parameters.items() if n not in known and p.default is p.empty]
                wrong = [n for n in case if n not in parameters or n in GIVEN]
                if lost or wrong:
                    raise InputError(
                        f"Arm {arm.name}: "
                        + "; ".join(
                            [f"nothing gives it {n!r}{nearest(n, known)}" for n in lost]
                            + [f"case {case} gives {n!r}, which it does not take" for n in wrong]
                        )
                        + f". It takes its cases, {', '.join((*GIVEN, *self.budget))}."
                    )
            self.arms[arm.name] = arm
            return function

        return declare

    def law(self, sentence: str, *, at_most: float | None = None, at_least: float | None = None):
        """Declare a claim that must hold: an equivalence, an invariant, an order. Decorates ``measure(rows) -> number``."""
        return self._claim("law", sentence, at_most, at_least, None)

    def effect(
        self, sentence: str, *, at_most: float | None = None, at_least: float | None = None, quick: float | None = None
    ):
        """Declare a claim that the run decides. Decorates ``measure(rows) -> number``.

        Sentence and bar belong to the commit that is run: a bar that is set when the rows are there already is refused.
        `quick` is the bar under ``--quick``.
        """
        return self._claim("effect", sentence, at_most, at_least, quick)

    def _claim(
        self, kind: str, sentence: str, at_most: float | None, at_least: float | None, quick: float | None
    ) -> Callable[[Callable[[Rows], float]], Callable[[Rows], float]]:
        if (at_most is None) == (at_least is None):
            raise InputError(f"{sentence!r} needs one bar: either at_most= or at_least=.")
        comparison, bar = ("at most", at_most) if at_most is not None else ("at least", at_least)
        assert bar is not None

        def declare(measure: Callable[[Rows], float]) -> Callable[[Rows], float]:
            self.claims.append(Stated(sentence, kind, comparison, bar, bar if quick is None else quick, measure))
            return measure

        return declare

    def picture(self, draw: Callable[[Rows, Any], object]) -> Callable[[Rows, Any], object]:
        """Declare the picture: ``draw(rows, figure)`` on an empty Matplotlib figure."""
        self.draw = draw
        return draw

    def check(self) -> None:
        """Refuse a study that could not end in evidence. InputError says what is missing."""
        missing = [w for w, t in {"arms": self.arms, "claims": self.claims, "picture": self.draw}.items() if not t]
        if missing:
            raise InputError(f"The study has no {' and no '.join(missing)}.")
        given = [self.budget, self.quick, self.long, *(case for arm in self.arms.values() for case in arm.cases)]
        for name, value in (item for mapping in given for item in mapping.items()):
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError):
                raise InputError(
                    f"{name} = {value!r} is no plain value, and an arm in another process cannot be given it. Name it, and let the "
                    "arm make it."
                ) from None


def find_folder(start: Path | None = None, checkout: Path | None = None) -> Path:
    """The folder ``studies`` of a clone: from `start` (the working folder) upwards, else of the checkout that is installed.

    Raises
    ------
    InputError : there is none.
    """
    start = (start or Path.cwd()).absolute()
    checkout = checkout or Path(__file__).resolve().parents[3]
    for place in (start, *start.parents, checkout):
        if list(scripts(place / "studies")):
            return place / "studies"
    raise InputError(
        f"There are no studies in {start} or above it, and slipstream is not installed from a clone. "
        "Studies belong to the repository: clone it and run this there."
    )


def scripts(folder: Path) -> dict[str, Path]:
    """Name -> script. Files that begin with an underscore are shared by studies and are none."""
    return {p.stem: p for p in sorted(folder.glob("*.py")) if not p.stem.startswith("_")}


def literal(script: Path, name: str) -> Any:
    """The value of a literal that a script assigns at its top, read without running the script.

    Raises
    ------
    InputError : it is not there, or not a literal.
    """
    try:
        tree = ast.parse(script.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise InputError(f"{script}:{error.lineno}: {error.msg}.") from None
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(t, ast.Name) and t.id == name for t in targets):
            try:
                return ast.literal_eval(statement.value)  # type: ignore[attr-defined]
            except ValueError:
                break
    raise InputError(f"{script} has no literal {name}: a study says {name} = ... at its top, in plain values.")


def state(script: Path) -> str:
    """What came out of a study so far, in a few words."""
    result = script.parent / "results" / f"{script.stem}.json"
    if not result.exists():
        return "not run"
    try:
        found = json.loads(result.read_text())
        hold, commit = [c["holds"] for c in found["claims"]], found["commit"]
    except (ValueError, KeyError, TypeError) as error:
        return f"damaged: {error}"
    return f"{sum(hold)} of {len(hold)} claims hold, commit {commit}"
