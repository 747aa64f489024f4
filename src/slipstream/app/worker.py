"""One job of a study in a process of its own: no arm inherits anything from the arm before, and each says which code it loaded.

The request is the first line of standard input. When that ends, whoever asked is gone, and so is this process.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import random
import select
import sys
import threading
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from slipstream.app import fingerprints
from slipstream.app.studies import Study
from slipstream.errors import InputError

NATIVE = (".c", ".cpp", ".cu", ".h")
SPENT = "seconds"
HEARTBEAT = 5.0
"""Seconds between notes of the time spent, for arms that continue after a kill."""


def load(script: Path) -> tuple[ModuleType, Study]:
    """Run the top of a script; its `Study`. Files beside the script can be imported.

    Raises
    ------
    InputError : it does not declare exactly one study.
    """
    place = str(script.parent)
    if place not in sys.path:
        sys.path.insert(0, place)
    spec = importlib.util.spec_from_file_location(f"study_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found = [v for v in vars(module).values() if isinstance(v, Study)]
    if len(found) != 1:
        raise InputError(f"{script} declares {len(found)} studies; expected one: study = Study(QUESTION, SEEDS, ...).")
    return module, found[0]


def loaded(roots: list[Path], script: Path, without: set[str]) -> set[Path]:
    """The files of ours that this process has imported, and the native sources beside them."""
    names = [getattr(m, "__file__", None) for n, m in list(sys.modules.items()) if n not in without]
    files = {Path(name).resolve() for name in names if name}
    ours = {f for f in files if f != script and f.suffix == ".py" and any(f.is_relative_to(r) for r in roots)}
    return ours | {n for folder in {f.parent for f in ours} for n in folder.iterdir() if n.suffix in NATIVE}


def run(request: dict[str, Any], begun: float) -> None:
    without = set(sys.modules)
    script, roots = Path(request["script"]).resolve(), [Path(r).resolve() for r in request["roots"]]
    _, study = load(script)
    arm = study.arms[request["arm"]]
    _seed(request["arguments"].get("seed", 0), [script, *script.parent.glob("_*.py")])
    arguments = {**request["arguments"], **({"folder": Path(request["folder"])} if "folder" in arm.takes else {})}
    start = time.perf_counter()
    result = arm.function(**arguments)
    seconds = time.perf_counter() - start
    files = {
        # Changed since the start: nobody can say which text ran. No fingerprint fits "".
        str(f): "" if f.stat().st_mtime > begun else fingerprints.of_file(f)
        for f in loaded(roots, script, without)
    }
    rows = result if isinstance(result, list) else [result]
    for row in rows:
        _check(row, request)
    Path(request["out"]).write_text(json.dumps({"rows": rows, "seconds": seconds, "files": files}, default=_plain))


def _plain(value: Any) -> Any:
    """Tensors and arrays as numbers and lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise InputError(
        f"A row is made of plain numbers, text, lists and mappings; got a {type(value).__name__}: {value!r:.80}."
    )


def _check(row: Any, request: dict[str, Any]) -> None:
    if not isinstance(row, dict) or not row:
        raise InputError(f"Arm {request['arm']} returned {row!r:.80}; expected a row: a dict of plain values.")
    taken = {"arm", "arm_seconds", *request["arguments"]} & row.keys()
    if taken:
        raise InputError(
            f"Arm {request['arm']} returned {sorted(taken)}, which every row has already. Call it otherwise."
        )


def _seed(seed: int, files: list[Path]) -> None:
    """Every global generator that the arm may meet starts from its seed: weights are drawn from torch's."""
    if any(fingerprints.imports_torch(f) for f in files):
        importlib.import_module(
            "torch"
        )  # an arm that imports it itself, later, would find it with the seed of every process
    random.seed(seed)
    for name, give in (("numpy", lambda m: m.random.seed(seed)), ("torch", lambda m: m.manual_seed(seed))):
        if name in sys.modules:
            give(sys.modules[name])


def _watch(folder: Path) -> None:
    """End with the parent; note the seconds spent so far, those of earlier attempts included."""
    note = folder / SPENT
    earlier = float(note.read_text()) if note.exists() else 0.0
    start = time.monotonic()
    while not select.select([sys.stdin.fileno()], [], [], HEARTBEAT)[0]:
        if folder.is_dir():
            fresh = note.with_suffix(".new")
            fresh.write_text(str(earlier + time.monotonic() - start))
            fresh.replace(note)
    os._exit(1)


def main() -> int:
    begun = time.time()
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_watch, args=(Path(request["folder"]),), daemon=True).start()
    try:
        run(request, begun)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
