"""Draws one frame of every ready-made problem and writes the page that shows them."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from typing import Any

SMALLER: dict[str, dict[str, Any]] = {
    "ConvectionRolls": {"warm_up": 5.0},
    "ElasticWaves": {"contrast": 0.1},
    "GrayScottPatterns": {"warm_up": 200.0},
    "IsotropicTurbulence": {"num_points": 64, "num_dims": 2, "reynolds": 400.0, "peak": 4.0, "detail": 1},
    "KolmogorovFlow": {"warm_up": 8.0},
    "MixingLayer": {"detail": 1, "interval": 0.4},
    "PollutedAir": {"cells": (8,), "interval": 2.0, "warm_up": 30.0},
    "RobertsonKinetics": {"interval": 2.0},
    "TaylorGreen": {"num_points": 24},
    "ActiveTurbulence": {"num_points": 32},
}
"""Arguments that keep a look at a problem cheap: these pages are built often."""
LEFT_OUT = ("Custom", "PeriodicProblem", "Problem", "Recorded", "SteadyLinear")
STEPS = 16


def shown() -> dict[str, type]:
    """The problems that can be made without any argument."""
    from slipstream import problems

    kinds = {n: getattr(problems, n) for n in problems.__all__}
    return {
        n: k
        for n, k in kinds.items()
        if inspect.isclass(k) and issubclass(k, problems.Problem) and n not in LEFT_OUT and not needs(k)
    }


def needs(kind: type) -> list[str]:
    """Arguments of a constructor that have no default."""
    signature = inspect.signature(kind)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [n for n, p in signature.parameters.items() if p.default is p.empty and p.kind not in variadic]


def fingerprint(kind: type, steps: int = STEPS) -> str:
    """Changes with the problem's file, its arguments and this script: then its picture is drawn anew."""
    text = Path(inspect.getfile(kind)).read_text() + Path(__file__).read_text()
    return hashlib.sha256(f"{kind.__name__} {steps} {text}".encode()).hexdigest()[:16]


def draw(problem: Any, path: Path, steps: int = STEPS) -> None:
    """One run by the fast classical solver: its last frame in the plane, all frames along a line, a system's course in time."""
    import torch
    from matplotlib.figure import Figure

    frames, parameters = problem.sample(1, seed=1)
    with torch.no_grad():
        u = problem.march(problem.solver(guard=False), frames, parameters, 1 if problem.steady else steps)[0]
    figure = Figure(figsize=(2.4, 2.0), layout="constrained")
    axes = figure.subplots()
    dims = u.ndim - 2
    if dims == 0:
        axes.plot(problem.interval * torch.arange(len(u)), u / u.abs().amax(0).clamp(min=1e-30), linewidth=1)
        axes.set_xlabel("t", fontsize=7)
    elif dims == 1 and problem.steady:
        axes.plot(problem.grid.axes[0].coordinates(), u[-1].T, linewidth=1)
        axes.set_xlabel("x", fontsize=7)
    else:
        middle = [n // 2 for n in u.shape[4:]]
        cuts = u.movedim(1, 0) if dims == 1 else u[(-1, slice(None), slice(None), slice(None), *middle)].mT
        picture = next((c for c in cuts if c.std() > 1e-6 * c.abs().max()), cuts[0])
        diverging = bool((picture.amin() < 0) & (picture.amax() > 0))
        largest = float(picture.abs().max())
        limits = {"vmin": -largest, "vmax": largest} if diverging else {}
        axes.imshow(picture, origin="lower", aspect="auto", cmap="RdBu_r" if diverging else "viridis", **limits)
        axes.set_xlabel("x", fontsize=7)
        axes.set_ylabel("t" if dims == 1 else "y", fontsize=7)
    axes.set_xticks([])
    axes.set_yticks([])
    figure.savefig(path, dpi=80, metadata={"Software": None})


def summary(kind: type) -> str:
    """The first sentence of a docstring."""
    return (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")


def page(kinds: dict[str, type]) -> str:
    lines = ["# Ready-made problems", "", INTRODUCTION, ""]
    lines += ["| | problem | |", "| --- | --- | --- |"]
    for name, kind in kinds.items():
        link = f"[{name}](reference/generated/problems.rst)"
        lines.append(f"| ![{name}](images/problems/{name}.png) | {link} | {summary(kind)} |")
    return "\n".join([*lines, ""])


def write(app) -> None:
    import torch

    folder = Path(app.srcdir) / "images" / "problems"
    folder.mkdir(parents=True, exist_ok=True)
    kinds = shown()
    for name, kind in kinds.items():
        picture, mark = folder / f"{name}.png", folder / f"{name}.txt"
        drawn = fingerprint(kind)
        if picture.exists() and mark.exists() and mark.read_text() == drawn:
            continue
        torch.manual_seed(0)
        draw(kind(**SMALLER.get(name, {})), picture)
        mark.write_text(drawn)
    for old in folder.iterdir():
        if old.stem not in kinds:
            old.unlink()
    text, path = page(kinds), Path(app.srcdir) / "problems.md"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


INTRODUCTION = """\
Every problem brings one equation on one domain, distributions of initial states and parameters, a trusted classical solver that
states its own error, and a ladder of cheaper settings that a fast solver has to beat. A picture shows one run, drawn when these
pages were built: the last frame of the first channel that varies (in space, a cut), all frames where there is one axis (time
upwards), the course in time where there is none."""


def setup(app):
    app.connect("builder-inited", lambda app: write(app))
    return {"parallel_read_safe": True}
