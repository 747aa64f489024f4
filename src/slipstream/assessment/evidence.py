"""Evidence files: what was asked, on which machine, at which commit, what came out, and which claims hold."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import slipstream
from slipstream.assessment.verification import machine as this_machine
from slipstream.assessment.verification import versions as these_versions
from slipstream.errors import InputError, StoreError
from slipstream.pretrained import write_whole

PACKAGE = Path(slipstream.__file__).resolve().parent
"""The folder of the code that runs."""

DIRTY = "-dirty"
"""Ends the commit of evidence that was made with code that is in no commit."""

KINDS = ("law", "effect")
COMPARISONS = ("at most", "at least")


@dataclass(frozen=True)
class Claim:
    """One sentence, the number that decides it, and the bar.

    Parameters
    ----------
    claim : the sentence.
    kind : ``"law"`` (equivalence, invariant, order: must hold) or ``"effect"`` (sentence and bar are set before the run, and it may fail).
    measured, bar : `measured` has to be at most, or at least, `bar`; a measured NaN never is.
    comparison : ``"at most"`` or ``"at least"``.
    """

    claim: str
    kind: Literal["law", "effect"]
    measured: float
    bar: float
    comparison: Literal["at most", "at least"]

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.comparison not in COMPARISONS or math.isnan(self.bar):
            raise InputError(
                f"A claim is a {' or an '.join(KINDS)}, compares by {' or '.join(COMPARISONS)}, and has a bar; "
                f"got {self.kind!r}, {self.comparison!r} and {self.bar!r} for {self.claim!r}."
            )

    @property
    def holds(self) -> bool:
        """Computed, never typed."""
        return self.measured <= self.bar if self.comparison == "at most" else self.measured >= self.bar


@dataclass(frozen=True)
class Commit:
    """Where some files stand in git: the commit that is checked out, and those of the files that differ from it."""

    revision: str
    changed: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.revision + (DIRTY if self.changed else "")


def commit_of(*paths: Path) -> Commit:
    """The commit that files and folders were checked out from, and what in them is not as committed (new files count).

    Raises
    ------
    InputError : they lie in no git checkout, or in different ones, so that no commit could name what is run.
    """
    tops = {_git(p, "rev-parse", "--show-toplevel") for p in paths}
    if len(tops) > 1:
        raise InputError(
            f"What is run lies in several checkouts: {', '.join(sorted(tops))}. One commit cannot name it all; install the "
            "checkout that you work in: pip install -e ."
        )
    (top,) = tops
    status = _git(Path(top), "status", "--porcelain", "--untracked-files=all", "--", *(str(p.resolve()) for p in paths))
    changed = tuple(line[3:] for line in status.splitlines())
    return Commit(_git(Path(top), "rev-parse", "--short=12", "HEAD"), changed)


def committed(*paths: Path, dirty: bool = False) -> str:
    """`commit_of` as text; refuses code that is in no commit, unless `dirty` lets it through, marked.

    Call it before the work: evidence that cannot be written should not be made.

    Raises
    ------
    InputError : something is not as committed and `dirty` is not given, or there is no checkout.
    """
    commit = commit_of(*paths)
    if commit.changed and not dirty:
        listed = ", ".join(commit.changed[:5]) + (" ..." if len(commit.changed) > 5 else "")
        raise InputError(
            f"Evidence names the commit that was run, and this is none: {listed} differ from {commit.revision}. "
            "Commit them first, or give --dirty, which marks the result."
        )
    return str(commit)


def evidence(
    *,
    question: str,
    rows: Sequence[Mapping[str, Any]],
    claims: Iterable[Claim],
    seeds: Sequence[int],
    minutes: float,
    commit: str,
    packages: Iterable[str] = (),
    machine: Mapping[str, float | int | str] | None = None,
) -> dict[str, Any]:
    """The content of one evidence file.

    Parameters
    ----------
    rows : what was measured, plain values; claims : judged here, from what was measured and its bar.
    minutes : of the whole run. commit : from `committed`.
    packages : more packages whose versions matter. machine : more to say of the machine, such as threads.
    """
    found = these_versions()
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            raise InputError(f"The version of {package!r} was asked for, but it is not installed.") from None
    return {
        "question": question,
        "machine": {**this_machine(), **(machine or {})},
        "versions": found,
        "commit": commit,
        "minutes": round(minutes, 2),
        "seeds": list(seeds),
        "rows": [dict(row) for row in rows],
        "claims": [{**asdict(claim), "holds": claim.holds} for claim in claims],
    }


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write an evidence file, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"Could not make the folder {path.parent}: {error.strerror}.") from error
    write_whole(path, (dumps(content) + "\n").encode())


def dumps(content: Any) -> str:
    """Plain values as JSON that any reader takes: numbers that are not finite are the strings NaN, Infinity, -Infinity.

    Tensors and arrays become numbers and lists. InputError names what is neither.
    """
    return json.dumps(_encode(content), indent=1, allow_nan=False)


def loads(text: str) -> Any:
    """Undo `dumps`."""
    return _decode(json.loads(text))


_ODD = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _encode(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(k): _encode(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InputError(
        f"Evidence is plain numbers, text, lists and mappings; got a {type(value).__name__}: {value!r:.80}."
    )


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _decode(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_decode(v) for v in value]
    return _ODD.get(value, value) if isinstance(value, str) else value


def _git(place: Path, *words: str) -> str:
    folder = place if place.is_dir() else place.parent
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True)
    except FileNotFoundError:
        raise InputError("Evidence names the commit that was run, and there is no git here. Install git.") from None
    if done.returncode:
        raise InputError(
            f"Evidence names the commit that was run, and {folder} gives none: {done.stderr.strip() or 'git failed'}. "
            "Run it in a clone of the repository."
        )
    return done.stdout.rstrip("\n")
