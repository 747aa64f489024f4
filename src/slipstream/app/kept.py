"""What is done of a study: one file a job, which counts for as long as the code that made it stands."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipstream.app import fingerprints
from slipstream.app.studies import Stated, Study
from slipstream.assessment import evidence
from slipstream.pretrained import write_whole


@dataclass(frozen=True)
class Job:
    """One call of one arm: its arguments, the fingerprint of its code, and whether it goes on in a folder after a kill."""

    arm: str
    arguments: dict[str, Any]
    code: str
    goes_on: bool

    def __str__(self) -> str:
        return f"{self.arm}({', '.join(f'{k}={v}' for k, v in self.arguments.items())})"


class Cache:
    """What is done: ``studies/.cache/NAME``, one file a job. An entry counts while the code, the versions and the machine are the same."""

    def __init__(self, script: Path, package: Path, quick: bool, threads: int, study: Study) -> None:
        self.script, self.package, self.quick, self.threads = script, package, quick, threads
        self.folder = script.parent / ".cache" / script.stem
        self.bars = [bar(c) for c in study.claims if c.kind == "effect"]
        machine = evidence.this_machine()
        del machine["torch threads"]  # of this process, which does no work
        self.where: dict[str, Any] = {"machine": machine, "versions": evidence.these_versions()}

    def path(self, job: Job) -> Path:
        key = json.dumps([job.arm, job.arguments, self.threads, self.quick], sort_keys=True, default=repr)
        return self.folder / f"{job.arm}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"

    def read(self, job: Job) -> dict[str, Any] | None:
        """The entry of a job; None where there is none that still stands for the code."""
        try:
            entry = evidence.loads(self.path(job).read_text())
            same = entry["code"] == job.code and all(entry[k] == v for k, v in self.where.items())
            files = entry["files"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return entry if same and all(fingerprints.of_file(Path(f)) == mark for f, mark in files.items()) else None

    def write(self, job: Job, result: dict[str, Any]) -> None:
        entry = {"job": str(job), "code": job.code, **self.where, "bars": self.bars, **result}
        write_whole(self.path(job), evidence.dumps(entry).encode())

    def workplace(self, job: Job) -> Path:
        """A folder that outlives a kill, emptied when any code has changed since."""
        folder = self.path(job).with_suffix(".work")
        mark = folder / "code"
        code = fingerprints.of_tree(self.package, self.script.parent)
        if not mark.exists() or mark.read_text() != code:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_whole(mark, code.encode())
        return folder


def bar(claim: Stated) -> list[Any]:
    """What has to be said of an effect before the run."""
    return [claim.claim, claim.comparison, float(claim.bar)]
