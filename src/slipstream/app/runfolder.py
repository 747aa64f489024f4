"""Run folders: what a recipe has made so far, kept so that the same command continues and a changed recipe is noticed.

``run.json`` holds the recipe and, for each stage begun, what went into it and whether it is done. It is written whole before
and after each stage, so at any moment of a kill it is true of the folder.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slipstream.app.nodes import differences
from slipstream.errors import InputError, StoreError
from slipstream.lock import Lock

FORMAT = 1
RECORD, LOCK, REMEDY = "run.json", ".lock", "choose another --out"


class RunFolder:
    """A folder that one process at a time works in. Use `open_run`."""

    def __init__(self, path: Path, tree: Mapping[str, Any], stages: dict[str, dict[str, Any]]) -> None:
        self.path, self.tree, self.stages = path, tree, stages

    def write(self) -> None:
        import slipstream
        from slipstream.pretrained import write_whole

        record = {"format": FORMAT, "slipstream": slipstream.__version__, "recipe": self.tree, "stages": self.stages}
        write_whole(self.path / RECORD, json.dumps(record, indent=1).encode())

    def done(self, stage: str) -> bool:
        return bool(self.stages.get(stage, {}).get("done"))

    def forget(self, stage: str) -> None:
        """Let a stage count as not begun, because what it rests on is about to change."""
        if self.stages.pop(stage, None) is not None:
            self.write()

    @contextmanager
    def stage(self, name: str, inputs: Any, outputs: list[str]) -> Iterator[dict[str, Any]]:
        """Do one stage inside; it is done when the block ends without an error.

        What an unfinished run of the same stage left stays for it to continue; what other inputs made is deleted. The dict
        given is kept in the record: put figures worth printing again there.
        """
        entry = self.stages.get(name)
        if entry is None:
            for output in outputs:
                _delete(self.path / output)
            entry = {"inputs": inputs, "outputs": outputs, "done": False, "seconds": 0.0, "result": {}}
            self.stages[name] = entry
            self.write()
        start = time.monotonic()
        try:
            yield entry["result"]
            missing = [o for o in outputs if not (self.path / o).exists()]
            if missing:
                raise StoreError(f"{name} ended without writing {', '.join(missing)} in {self.path}.")
            entry["done"] = True
        finally:
            entry["seconds"] += time.monotonic() - start
            self.write()


@contextmanager
def open_run(
    path: Path, tree: Mapping[str, Any], inputs: Mapping[str, Any], force: bool = False
) -> Iterator[RunFolder]:
    """The run folder at `path` for a recipe, made if it is not there, locked while it is open.

    Parameters
    ----------
    tree : the whole recipe, plain.
    inputs : stage -> the part of the recipe that it depends on.
    force : let a changed recipe through; the stages that depend on what changed are done again.

    Raises
    ------
    StoreError : in use by another process, not writable, not a run folder, damaged, or from a newer version.
    InputError : the recipe has changed and `force` is not given.
    """
    tree = json.loads(json.dumps(tree))
    inputs = json.loads(json.dumps(inputs))
    _make(path)
    with locked(path):
        run = RunFolder(path, tree, {})
        if (path / RECORD).exists():
            _take_over(run, read_record(path), inputs, force)
        elif any(not child.name.startswith(".") for child in path.iterdir()):
            raise StoreError(
                f"{path} holds files but no {RECORD}: it is not a run folder, or a half-copied one. "
                "Choose another --out, or delete it yourself."
            )
        run.write()
        yield run


def _take_over(run: RunFolder, record: Mapping[str, Any], inputs: Mapping[str, Any], force: bool) -> None:
    changed = differences(record["recipe"], run.tree)
    stale = [s for s, e in record["stages"].items() if s not in inputs or differences(e["inputs"], inputs[s])]
    if (changed or stale) and not force:
        redo = f"does {', '.join(stale)} again" if stale else "keeps everything done so far"
        lines = changed or [f"{stage}: begun by another version of slipstream" for stage in stale]
        raise InputError(
            f"The recipe has changed since {run.path} was made:\n  "
            + "\n  ".join(lines)
            + f"\nTake the change back, choose another --out, or give --force, which {redo}."
        )
    run.stages = {s: e for s, e in record["stages"].items() if s not in stale}
    for stage, entry in list(run.stages.items()):
        missing = [o for o in entry["outputs"] if entry["done"] and not (run.path / o).exists()]
        if missing and not force:
            raise StoreError(
                f"{run.path} is incomplete: {stage} is recorded as done, but {', '.join(missing)} is missing. "
                "Put it back, choose another --out, or give --force, which does the stage again."
            )
        if missing:
            del run.stages[stage]


def read_record(path: Path) -> dict[str, Any]:
    """What ``run.json`` says, refused where this version cannot trust it."""
    file = path / RECORD
    try:
        record = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{file} could not be read: {error}. Choose another --out, or delete {path} yourself."
        ) from None
    known = (
        isinstance(record, dict) and isinstance(record.get("recipe"), dict) and isinstance(record.get("stages"), dict)
    )
    version = record.get("format") if isinstance(record, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise StoreError(
            f"{file} has format {version}; this slipstream knows formats up to {FORMAT}. Upgrade slipstream."
        )
    if not known or version != FORMAT:
        raise StoreError(f"{file} is no record of a run. Choose another --out, or delete {path} yourself.")
    return record


def locked(path: Path) -> Lock:
    """Hold a folder for this process."""
    return Lock(path / LOCK, str(path), REMEDY)


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"Could not make the folder {path}: {error.strerror}. Choose another --out.") from None


def _delete(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"Could not delete {path}: {error.strerror}.") from None
