"""Runs a study: job by job, each kept as soon as it is done, and at the end the evidence, whole or not at all."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipstream.app import fingerprints, worker
from slipstream.app.kept import Cache, Job, bar
from slipstream.app.names import nearest
from slipstream.app.progress import Board
from slipstream.app.studies import Rows, Size, Stated, Study, literal
from slipstream.assessment import evidence
from slipstream.assessment.evidence import Claim
from slipstream.errors import InputError, SlipstreamError
from slipstream.lock import Lock
from slipstream.pretrained import write_whole

Say = Callable[[str], None]
LONGEST = {"full": 90, "quick": 3}
"""Minutes that a study may take, by its size."""


@dataclass(frozen=True)
class Outcome:
    """What a run of a study came to: the claims, and where they are written (None: jobs are missing or failed)."""

    claims: tuple[Claim, ...] = ()
    path: Path | None = None
    failed: tuple[str, ...] = ()
    minutes: float = 0.0

    @property
    def good(self) -> bool:
        """Nothing failed, and no law is broken. An effect may fail: that is an answer."""
        return not self.failed and all(c.holds for c in self.claims if c.kind == "law")


def run(
    script: Path,
    say: Say,
    *,
    size: Size = "full",
    arms: Collection[str] = (),
    threads: int | None = None,
    dirty: bool = False,
    fresh: bool = False,
    package: Path = evidence.PACKAGE,
) -> Outcome:
    """Run what is not done yet of a study and write its evidence.

    Parameters
    ----------
    size : ``full`` is the evidence; ``quick`` the small budget and the first seed, ``long`` the budget of a longer version, where there
        is one. What these two find stands beside the evidence, in ``studies/.cache/quick`` and ``studies/.cache/long``.
    arms : only these; the evidence is written when all arms are there.
    threads : of every job; None is all cores.
    dirty : write although code is in no commit, or bars were set after rows were there; the evidence is marked.
    fresh : do again what was done before.
    package : the folder of the package whose code is run.

    Raises
    ------
    InputError : the script declares no complete study, an arm is not known, or code or bars are not those committed before the run.
    StoreError : another process runs this study.
    """
    script = script.resolve()
    _, study = worker.load(script)
    study.check()
    _same_literals(script, study)
    for name in arms:
        if name not in study.arms:
            raise InputError(
                f"There is no arm {name!r}.{nearest(name, study.arms)} There are: {', '.join(study.arms)}."
            )
    sources = (package, script, *sorted(script.parent.glob("_*.py")))
    commit = _commit(sources, size, dirty)
    cache = Cache(script, package, size == "quick", threads or _cores(), study)
    cache.folder.mkdir(parents=True, exist_ok=True)
    with Lock(cache.folder / ".lock", f"The study {script.stem}", "stop it"):
        jobs = plan(study, script, size)
        chosen = [j for j in jobs if not arms or j.arm in arms]
        todo = [j for j in chosen if fresh or cache.read(j) is None]
        late = [] if size != "full" else _late_bars(study, [e for j in jobs if j not in todo and (e := cache.read(j))])
        if late and not dirty:
            raise InputError(
                f"The claim {late[0]} was not in the script when rows were made that are kept. Sentence and bar of an effect are set "
                "before the run: take the change back, or run again with --fresh. (--dirty keeps the rows and marks the evidence.)"
            )
        kept = len(chosen) - len(todo)
        say(f"{script.stem}: {len(todo)} to do" + (f", {kept} done before, kept" if kept else ""))
        failed = _work(todo, cache, say)
        jobs = plan(study, script, size)  # anew: the script too may have changed meanwhile
        entries = [cache.read(j) for j in jobs]
        if failed:
            return Outcome(failed=tuple(failed))
        if None in entries:
            missing = [str(j) for j, e in zip(jobs, entries, strict=True) if e is None]
            if not arms:
                raise SlipstreamError(
                    f"Code was changed while the study ran, and {', '.join(missing[:3])} no longer stand for it. "
                    "The same command does them again."
                )
            say(f"No evidence yet: {len(missing)} jobs of other arms are missing, such as {missing[0]}.")
            return Outcome()
        if size == "full":
            commit = evidence.committed(*sources, dirty=dirty)
        if late and not commit.endswith(evidence.DIRTY):
            commit += evidence.DIRTY
        outcome = _write(study, script, jobs, [e for e in entries if e], commit, size, cache.threads)
        if outcome.minutes > (most := LONGEST.get(size, math.inf)):
            say(
                f"It took {outcome.minutes:.1f} minutes; {most} are allowed. Shrink {'quick' if size == 'quick' else 'budget'}."
            )
        return outcome


def plan(study: Study, script: Path, size: Size) -> list[Job]:
    """Every call of every arm, in the order of the script."""
    budget = study.budget_of(size)
    seeds = study.seeds_of(size)
    jobs = []
    for arm in study.arms.values():
        code = fingerprints.of_function(script, arm.name)
        spent = {k: v for k, v in budget.items() if k in arm.takes}
        for case in arm.cases:
            for seed in seeds[: arm.seeds] if "seed" in arm.takes else (None,):
                own = {} if seed is None else {"seed": seed}
                jobs.append(Job(arm.name, {**spent, **case, **own}, code, "folder" in arm.takes))
    return jobs


def _work(jobs: Sequence[Job], cache: Cache, say: Say) -> list[str]:
    failed = []
    with Board(len(jobs), say) as board:
        for job in jobs:
            board.begin(str(job))
            log = cache.path(job).with_suffix(".log")
            result = _do(job, cache, log)
            if result is None:
                failed.append(str(job))
                last = (log.read_text().strip().splitlines() or ["it was killed"])[-1]
                board.end(f"failed: {job}: {last}  (all of it in {log})")
                continue
            cache.write(job, result)
            log.unlink(missing_ok=True)
            board.end(f"{job}  {result['seconds']:.1f} s")
    return failed


def _do(job: Job, cache: Cache, log: Path) -> dict[str, Any] | None:
    folder, out = cache.workplace(job), cache.path(job).with_suffix(".part")
    note = folder / worker.SPENT
    earlier = float(note.read_text()) if note.exists() else 0.0
    out.unlink(missing_ok=True)
    request = {
        "script": str(cache.script),
        "roots": [str(cache.package), str(cache.script.parent)],
        "arm": job.arm,
        "arguments": job.arguments,
        "folder": str(folder),
        "out": str(out),
    }
    environment = {**os.environ, **{f"{p}_NUM_THREADS": str(cache.threads) for p in ("OMP", "MKL", "OPENBLAS")}}
    command = [sys.executable, "-P", "-m", "slipstream.app.worker"]
    with open(log, "wb") as file:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment)
        assert child.stdin is not None
        try:
            # It stays open: that it ends tells the worker that this process has died.
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
            child.wait()
        except BrokenPipeError:
            child.wait()
        except KeyboardInterrupt:
            _let_save(child)
            raise
        finally:
            child.stdin.close()
    if child.returncode or not out.exists():
        return None
    result = json.loads(out.read_text())
    if job.goes_on:
        result["seconds"] += earlier
    out.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    return result


def _let_save(child: subprocess.Popen[bytes], seconds: float = 60.0) -> None:
    """Ctrl-C reached the worker too: a training in it saves. Another Ctrl-C does not wait for that."""
    try:
        child.wait(timeout=seconds)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.kill()
        child.wait()


def judge(claims: Sequence[Stated], rows: Rows, quick: bool) -> tuple[Claim, ...]:
    """The claims with what was measured."""
    return tuple(
        Claim(c.claim, c.kind, float(c.measure(rows)), float(c.quick_bar if quick else c.bar), c.comparison)  # type: ignore[arg-type]
        for c in claims
    )


def _write(
    study: Study,
    script: Path,
    jobs: Sequence[Job],
    entries: Sequence[dict[str, Any]],
    commit: str,
    size: Size,
    threads: int,
) -> Outcome:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = Rows(
        {"arm": job.arm, **job.arguments, **row, "arm_seconds": round(entry["seconds"], 3)}
        for job, entry in zip(jobs, entries, strict=True)
        for row in entry["rows"]
    )
    known = sorted({k for r in rows for k in r})
    for key in study.table:
        if key not in known:
            raise InputError(
                f"TABLE names {key!r}, which no row has.{nearest(key, known)} Rows have: {', '.join(known)}."
            )
    claims = judge(study.claims, rows, quick=size == "quick")
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    assert study.draw is not None
    study.draw(rows, figure)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    minutes = sum(e["seconds"] for e in entries) / 60
    content = evidence.evidence(
        question=study.question,
        rows=rows,
        claims=claims,
        seeds=study.seeds_of(size),
        minutes=minutes,
        commit=commit,
        machine={"torch threads": threads},
    )
    folder = script.parent / ("results" if size == "full" else f".cache/{size}")
    path = folder / f"{script.stem}.json"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path.with_suffix(".png"), picture.getvalue())
    evidence.save(path, content)
    return Outcome(claims, path, minutes=minutes)


def _late_bars(study: Study, entries: Sequence[dict[str, Any]]) -> list[str]:
    """Effects whose sentence or bar was set when rows were there already: such a bar proves nothing."""
    return [
        f"{claim.claim!r} ({claim.comparison} {claim.bar:g})"
        for claim in study.claims
        if claim.kind == "effect" and any(bar(claim) not in e["bars"] for e in entries)
    ]


def _commit(sources: Sequence[Path], size: Size, dirty: bool) -> str:
    if size == "full":
        return evidence.committed(*sources, dirty=dirty)
    try:
        return str(evidence.commit_of(*sources))
    except InputError:
        return "none"  # a look, no evidence


def _same_literals(script: Path, study: Study) -> None:
    wanted = {"QUESTION": study.question, **({"TABLE": study.table} if study.table else {})}
    for name, value in wanted.items():
        if literal(script, name) != value:
            raise InputError(f"{script}: the study has another {name} than the literal at the top; give it {name}.")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
