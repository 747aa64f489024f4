"""How fast the spectral solver steps, beside Exponax 0.2.0: two-dimensional Kolmogorov flow, ETDRK2, float32.

Run ``python benchmarks/spectral.py`` where both are installed (``pip install exponax==0.2.0`` beside slipstream); five minutes on two
quiet cores. Writes ``benchmarks/results/spectral.json``.

Both sides solve the same equation from the same state and keep the same wavenumbers, and must agree before anything is timed. They run in
one process, in turn, in blocks of a few milliseconds after two calls to warm up, and the shortest block of each counts: what else the
machine does hits both alike. Steps of Exponax are compiled, whole; over several runs they are mapped by `jax.vmap`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _turns import Block, run, shortest

if TYPE_CHECKING:
    from slipstream.assessment.evidence import Claim

QUESTION = (
    "Is a spectral step in PyTorch as fast as a compiled one in JAX, and is its time spent in Fourier transforms?"
)
REYNOLDS, WAVENUMBER, DRAG = 1000.0, 4, 0.1
DT, STEPS_A_FRAME, STEPS_TO_AGREE = 1e-3, 20, 50
AGREEMENT = 1e-5
SPEED = {(64, 1): 0.85, (128, 1): 1.2, (256, 1): 1.2, (64, 16): 1.3}
"""(points, runs): least speed relative to Exponax, a physical state in and out of every step."""
OVERHEAD = 1.7
"""Most time a step may take relative to its transforms alone, from 128 points on."""


def ours(n: int, steps: int) -> Any:
    """The stepper under test: one frame is `steps` time steps of DT."""
    import slipstream as ss
    from slipstream.problems.problem import Setting

    problem = ss.problems.KolmogorovFlow(
        num_points=n,
        reynolds=REYNOLDS,
        interval=steps * DT,
        wavenumber=WAVENUMBER,
        amplitude=1.0,
        drag=DRAG,
        warm_up=0.0,
    )
    return problem.solver(Setting(n, steps, ss.solvers.ETDRK2), guard=False)


def theirs(n: int) -> Any:
    """The same equation in Exponax, whose stream function has the other sign, and with our set of dealiased wavenumbers."""
    import exponax

    kept = (n - 1) // 3
    return exponax.stepper.KolmogorovFlowVorticity(
        2,
        2 * math.pi,
        n,
        DT,
        diffusivity=1 / REYNOLDS,
        convection_scale=-1.0,
        drag=-DRAG,
        injection_mode=WAVENUMBER,
        order=2,
        dealiasing_fraction=(kept + 1.01) / (n / 2),
    )


def our_blocks(n: int, w: Any) -> dict[str, Block]:
    import torch

    single, many = ours(n, 1), ours(n, STEPS_A_FRAME)
    frames = w[:, None]

    def in_and_out(steps: int) -> Any:
        u = frames
        for _ in range(steps):
            u = single.advance(single.start(u, {}), {})[1]
        return u

    def out(steps: int) -> Any:
        state = single.start(frames, {})
        for _ in range(steps):
            state, u = single.advance(state, {})
        return u

    started = many.start(frames, {})

    def within(steps: int) -> Any:
        state = started
        for _ in range(steps // STEPS_A_FRAME):
            state, u = many.advance(state, {})
        return u

    packed = torch.randn(*w.shape, dtype=torch.complex64)

    def transforms(steps: int) -> None:
        for _ in range(2 * steps):
            torch.fft.fft2(torch.fft.ifft2(packed))

    return {"ours, in and out": in_and_out, "ours, out": out, "ours, 20 a frame": within, "our transforms": transforms}


def their_blocks(n: int, w: Any) -> dict[str, Block]:
    import exponax
    import jax

    step = theirs(n)
    frames = jax.numpy.asarray(w.numpy() if len(w) > 1 else w[0].numpy())

    def compiled(function: Callable) -> Callable:
        return jax.jit(jax.vmap(function) if len(w) > 1 else function)

    single, many = compiled(lambda u: step(u)), compiled(lambda u: exponax.RepeatedStepper(step, STEPS_A_FRAME)(u))

    def march(function: Callable, calls: int) -> Any:
        u = frames
        for _ in range(calls):
            u = function(u)
        return u.block_until_ready()

    return {
        "exponax, in and out": lambda steps: march(single, steps),
        "exponax, 20 a frame": lambda steps: march(many, steps // STEPS_A_FRAME),
    }


def measure(n: int, runs: int, threads: int, seconds: float) -> dict[str, Any]:
    import torch

    import slipstream as ss

    generator = torch.Generator().manual_seed(0)
    problem = ss.problems.KolmogorovFlow(num_points=n, warm_up=0.0)
    w = torch.stack([problem.initial(generator) for _ in range(runs)]).float()
    mine, their = our_blocks(n, w), their_blocks(n, w)
    a = mine["ours, out"](STEPS_TO_AGREE).reshape(w.shape)
    b = torch.tensor(their["exponax, in and out"](STEPS_TO_AGREE).tolist()).reshape(w.shape)
    difference, change = float((a - b).norm() / b.norm()), float((b - w).norm() / w.norm())
    if not difference <= AGREEMENT:
        raise SystemExit(
            f"{n} points: the solutions differ by {difference:.1e} after {STEPS_TO_AGREE} steps; nothing was timed."
        )
    row = {"threads": threads, "num_points": n, "runs": runs, "difference": difference, "change": change}
    return {**row, "microseconds_a_step": shortest({**mine, **their}, seconds, STEPS_A_FRAME)}


def work(threads: int, seconds: float) -> None:
    """All cases with one number of threads; one line of JSON each."""
    try:
        import exponax  # noqa: F401
    except ImportError:
        raise SystemExit("This benchmark needs Exponax: pip install exponax==0.2.0") from None
    import torch

    torch.set_num_threads(threads)
    with torch.no_grad():
        for n, runs in SPEED:
            print(json.dumps(measure(n, runs, threads, seconds)), flush=True)


def claims(rows: list[dict[str, Any]]) -> Iterator[Claim]:
    from slipstream.assessment.evidence import Claim

    worst = max(row["difference"] for row in rows)
    yield Claim(f"Both compute the same solution ({STEPS_TO_AGREE} steps).", "law", worst, AGREEMENT, "at most")
    for row in rows:
        n, runs, t = row["num_points"], row["runs"], row["microseconds_a_step"]
        case = f"{n} x {n} points, {runs} run(s), {row['threads']} thread(s)"
        bar, speed = SPEED[n, runs], t["exponax, in and out"] / t["ours, in and out"]
        text = f"{case}: at least {bar} times the speed of Exponax, state in and out."
        yield Claim(text, "effect", speed, bar, "at least")
        if n >= 128:
            over = t["ours, 20 a frame"] / t["our transforms"]
            yield Claim(f"{case}: at most {OVERHEAD} times its transforms.", "effect", over, OVERHEAD, "at most")


if __name__ == "__main__":
    run(Path(__file__), QUESTION, work, claims, ["exponax", "jax", "jaxlib"])
