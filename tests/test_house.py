"""The house: who may import whom, and what an import costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import slipstream

ROOT = Path(slipstream.__file__).parent

LEAVES = {"errors", "lock", "channels", "grids", "meshes", "trajectories", "pretrained", "stepper", "client"}
BELOW = {
    "operators": set(),
    "equations": set(),
    "solvers": {"equations"},
    "problems": {"equations", "solvers"},
    "steppers": {"equations", "solvers", "problems", "operators"},
}
BELOW["objectives"] = BELOW["steppers"] | {"steppers"}
BELOW["data"] = BELOW["objectives"] | {"objectives"}
BELOW["training"] = BELOW["data"] | {"data"}
for room in ("compression", "search", "generative", "fields", "geometry"):
    BELOW[room] = BELOW["training"] | {"training"}
SIDE = {"compression", "search", "generative", "fields", "geometry"}
BELOW["applications"] = BELOW["training"] | {"training"} | SIDE
BELOW["assessment"] = BELOW["applications"] | {"applications"}
BELOW["app"] = BELOW["assessment"] | {"assessment"}


def imports_at_load(path: Path) -> set[str]:
    """Slipstream modules imported when the file is, that is: outside functions and TYPE_CHECKING."""
    found: set[str] = set()

    def walk(nodes: list[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
            if isinstance(node, ast.Import):
                found.update(a.name for a in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.update(
                    [node.module] if node.module != "slipstream" else [f"slipstream.{a.name}" for a in node.names]
                )
            for part in ("body", "orelse", "handlers", "finalbody"):
                walk(getattr(node, part, []))

    walk(ast.parse(path.read_text()).body)
    return {n.split(".")[1] for n in found if n.startswith("slipstream.")}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    parts = path.relative_to(ROOT).parts
    if len(parts) == 1 and parts[0] in ("__init__.py", "__main__.py"):
        return
    room = parts[0].removesuffix(".py")
    allowed = LEAVES if room in LEAVES else LEAVES | BELOW[room] | {room}
    assert imports_at_load(path) <= allowed


@pytest.mark.parametrize("heavy", ["xarray", "zarr", "matplotlib", "sympy", "ray", "pandas", "h5py", "jsonargparse"])
def test_import_is_light(heavy):
    code = f"import sys, slipstream as ss; ss.problems, ss.operators, ss.steppers, ss.train; print({heavy!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
