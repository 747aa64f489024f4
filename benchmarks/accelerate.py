"""`slipstream.accelerate` on a U-Net and an FNO at 64 x 64 points: how much faster, within one percent of extra rollout error.

Run ``python benchmarks/accelerate.py`` on an otherwise idle machine; about forty minutes, most of them training and compiling. It
needs, in the same environment, a C++ compiler and ``pip install onnx onnxruntime onnxscript``; without the latter one candidate is
missing, and the table says so. Writes ``benchmarks/results/accelerate.json``.

Both models learn Kolmogorov flow from simulated frames first: the error of a rollout says little about a network that has learnt nothing.
The job is a rollout from one known frame, normalisation and state included; arms take turns, and the best of the rounds counts.
Compiling is once a process and stands in a column of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from rich.console import Console

import slipstream as ss
from slipstream.assessment.acceleration import SEED
from slipstream.assessment.evidence import PACKAGE, Claim, committed, evidence, save

QUESTION = "How much faster do a U-Net and an FNO become within one percent of extra rollout error, one run or sixteen at a time?"
MODELS = {
    "unet": partial(ss.operators.UNet, hidden_channels=24),
    "fno": partial(ss.operators.FNO, n_modes=(16, 16), hidden_channels=32, n_layers=4),
}
POINTS, FRAMES, RUNS = 64, 20, 4
BATCHES, THREADS = (1, 16), (1, 2)
MAX_ERROR, SPEED_BAR, SAVED_BAR = 0.01, 2.0, 1e-3
RESULT = Path(__file__).parent / "results" / "accelerate.json"


def trained(operator: partial, problem: ss.problems.KolmogorovFlow, steps: int) -> tuple[ss.Stepper, float]:
    """A stepper that has seen so many batches, and its seconds."""
    torch.manual_seed(0)
    stepper = ss.steppers.Autoregressive(operator, problem)
    frames = problem.simulate(8, 20, seed=0)
    training = ss.train(stepper, frames, ss.objectives.Supervised(), steps=steps, batch=4, show=False)
    return stepper, training.seconds


def saved_and_read(fast: ss.Stepper, known: ss.Trajectories, batch: int, threads: int) -> float:
    """Largest difference of the rollouts of a model and of its copy from disk, over the largest value."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(prefix="slipstream-") as folder:
        fast.save_pretrained(folder)
        again = ss.Stepper.from_pretrained(folder)
    many = known[torch.arange(batch) % known.runs]
    one, other = (ss.rollout(s, many, FRAMES).frames for s in (fast, again))
    return float((one - other).abs().max() / one.abs().max())


def measure(name: str, stepper: ss.Stepper, frames: ss.Trajectories, batch: int, threads: int) -> dict:
    torch._dynamo.reset()
    began = time.perf_counter()
    fast = ss.accelerate(
        stepper, frames, max_error=MAX_ERROR, steps=FRAMES, runs=RUNS, batch=batch, threads=threads, say=print
    )
    table = fast.acceleration
    assert table is not None
    Console(width=150).print(table)
    won = table.row(table.winner)
    return {
        "model": name,
        "batch": batch,
        "threads": threads,
        "winner": table.winner,
        "speed_up": table.speed_up,
        "extra_error": won.error,
        "deviation": won.deviation,
        "preparation": won.preparation,
        "search_minutes": (time.perf_counter() - began) / 60,
        "saved_and_read": saved_and_read(fast, frames[:, :1], batch, threads),
        "table": table.plain()["rows"],
    }


def claims(rows: list[dict]) -> list[Claim]:
    found = []
    for row in rows:
        where = f"{row['model']}, batch {row['batch']}, {row['threads']} thread(s)"
        found += [
            Claim(f"The extra rollout error stays within one percent: {where}.", "law", row["extra_error"], MAX_ERROR, "at most"),
            Claim(f"Never slower than what was given: {where}.", "law", row["speed_up"], 1.0, "at least"),
            Claim(f"The copy from disk gives the same rollouts: {where}.", "law", row["saved_and_read"], SAVED_BAR, "at most"),
            Claim(f"At least twice as fast: {where}.", "effect", row["speed_up"], SPEED_BAR, "at least"),
        ]  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batches", nargs="*", type=int, default=BATCHES)
    parser.add_argument("--threads", nargs="*", type=int, default=THREADS)
    parser.add_argument("--training", type=int, default=1000, help="training steps of each model")
    parser.add_argument("--out", type=Path, default=RESULT, help="where to write the result")
    parser.add_argument(
        "--dirty", action="store_true", help="let code through that is in no commit; the result is marked"
    )
    arguments = parser.parse_args()
    commit = committed(PACKAGE, Path(__file__), dirty=arguments.dirty)
    warnings.filterwarnings("ignore", module="torch")
    began, load = time.perf_counter(), os.getloadavg()[0]
    problem = ss.problems.KolmogorovFlow(num_points=POINTS, reynolds=100, interval=0.1)
    frames = problem.simulate(RUNS, FRAMES + 2, seed=SEED)
    rows = []
    for name in arguments.models:
        torch.set_num_threads(max(arguments.threads))
        stepper, seconds = trained(MODELS[name], problem, arguments.training)
        print(f"{name}: trained in {seconds:.0f} s", flush=True)
        for threads in arguments.threads:
            for batch in arguments.batches:
                rows.append(measure(name, stepper, frames, batch, threads))
                print(json.dumps({k: v for k, v in rows[-1].items() if k != "table"}), flush=True)
    result = evidence(
        question=QUESTION,
        rows=rows,
        claims=claims(rows),
        seeds=[0],
        minutes=(time.perf_counter() - began) / 60,
        commit=commit,
        packages=["onnxruntime"] if find_spec("onnxruntime") else [],
        machine={"load before": load},
    )
    save(arguments.out, result)
    for row in result["claims"]:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
