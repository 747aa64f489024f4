"""Fingerprints of code: whether a result that was computed before is still the one that the code would give.

They do not see comments, layout and docstrings.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

DECLARATIONS = {"arm", "law", "effect", "picture"}
"""Decorators of a study: what they are given reaches an arm only through its arguments."""


def of_file(path: Path) -> str:
    """Of one file; empty where there is none. A room's ``__init__.py`` counts without the names that it hands on: what they lead to
    has fingerprints of its own, and a new name beside them changes nothing.
    """
    try:
        stamp = path.stat()
    except OSError:
        return ""
    return _of_file(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=4096)
def _of_file(path: Path, changed: int, size: int) -> str:
    content = path.read_bytes()
    if path.suffix != ".py":
        return hashlib.sha256(content).hexdigest()
    tree = _bare(ast.parse(content))
    if path.name == "__init__.py":
        tree.body = [
            s for s in tree.body if not isinstance(s, ast.Import | ast.ImportFrom) and "__all__" not in _bound(s)
        ]
    return _digest(tree)


def of_function(script: Path, name: str) -> str:
    """Of a function of a script and of everything at the script's top level that it can reach by name.

    Statements that bind no name (settings, say) always count. Claims, pictures and arms beside it do not.
    """
    tree = _bare(ast.parse(script.read_bytes()))
    studies = {n for s in tree.body if _makes_study(s) for n in _bound(s)}
    bound = [(s, _bound(s)) for s in tree.body]
    kept = {i for i, (s, names) in enumerate(bound) if not names and _root(s) not in studies}
    todo = {name} | {n for i in kept for n in _used(bound[i][0])}
    seen: set[str] = set()
    while todo:
        seen |= todo
        reached = {i for i, (_, names) in enumerate(bound) if names & todo}
        todo = {n for i in reached - kept for n in _used(bound[i][0])} - seen
        kept |= reached
    return _digest(ast.Module([bound[i][0] for i in sorted(kept)], []))


def of_tree(*folders: Path) -> str:
    """Of every byte of code in some folders."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def imports_torch(path: Path) -> bool:
    """Whether a script imports torch or what stands on it anywhere, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return any(n.partition(".")[0] in ("torch", "slipstream") for n in found - {"slipstream.app.studies"})


def _digest(tree: ast.Module) -> str:
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _bare(tree: ast.Module) -> ast.Module:
    """Without docstrings, and without the declarations of a study."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = [d for d in node.decorator_list if not _declares(d)]
    return tree


def _declares(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Attribute) and called.attr in DECLARATIONS


def _makes_study(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Assign) else None
    return isinstance(value, ast.Call) and getattr(value.func, "id", getattr(value.func, "attr", "")) == "Study"


def _root(statement: ast.stmt) -> str | None:
    """``study`` of ``study.law(...)(...)``."""
    node: ast.AST | None = statement.value if isinstance(statement, ast.Expr) else None
    while isinstance(node, ast.Call | ast.Attribute):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _bound(statement: ast.stmt) -> set[str]:
    """Names that a statement binds in its module."""
    names: set[str] = set()
    for node in _outside_functions(statement):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
    return names


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.comprehension):
        for child in ast.iter_child_nodes(node):
            yield from _outside_functions(child)


def _used(statement: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
