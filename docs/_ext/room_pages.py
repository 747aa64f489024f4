"""Writes one page of reference a room of the house: its word, a table of its public names, and what each is."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

LEAVES = {
    "grids": ("Axis", "Grid"),
    "channels": ("Channel",),
    "trajectories": ("Trajectories", "Window"),
    "stepper": ("State", "Stepper"),
    "pretrained": ("Pretrained",),
    "client": None,
    "errors": None,
}
LEFT_OUT = ("app", "applications")


def rooms(package) -> list[str]:
    found = [m.name for m in pkgutil.iter_modules(package.__path__) if m.ispkg and m.name not in LEFT_OUT]
    return [r for r in found if getattr(importlib.import_module(f"{package.__name__}.{r}"), "__all__", None)]


def page(title: str, module: str, names: list[str]) -> str:
    found = importlib.import_module(module)
    lines = [title, "=" * len(title), "", f".. currentmodule:: {module}", ""]
    summary = (found.__doc__ or "").strip().partition("\n\n")[0].replace("\n", " ")
    lines += [summary, "", ".. autosummary::", "   :nosignatures:", "", *(f"   {n}" for n in names), ""]
    for name in names:
        value = getattr(found, name)
        directive = "autoclass" if inspect.isclass(value) else "autofunction" if callable(value) else "autodata"
        lines += [name, "-" * len(name), "", f".. {directive}:: {name}"]
        if directive == "autoclass":
            lines += ["   :members:", "   :exclude-members: forward, training", "   :show-inheritance:"]
        lines.append("")
    return "\n".join(lines)


def write(app) -> None:
    import slipstream

    folder = Path(app.srcdir) / "reference" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    pages = {}
    for room in rooms(slipstream):
        module = f"slipstream.{room}"
        names = [
            n
            for n in importlib.import_module(module).__all__
            if not inspect.ismodule(getattr(importlib.import_module(module), n))
        ]
        pages[room] = page(room, module, names)
    for leaf, names in LEAVES.items():
        module = importlib.import_module(f"slipstream.{leaf}")
        own = [n for n, v in vars(module).items() if inspect.isclass(v) and v.__module__ == module.__name__]
        pages[leaf] = page(leaf, module.__name__, list(names or own))
    for old in folder.glob("*.rst"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app):
    app.connect("builder-inited", lambda app: write(app))
    return {"parallel_read_safe": True}
