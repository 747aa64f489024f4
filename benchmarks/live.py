"""Live ensembles with clients that only sleep: does production grow with their number, and does the training get what the law says?

Run ``python benchmarks/live.py``; two minutes. Writes ``benchmarks/results/live.json``. With Ray installed, its engine is measured too.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slipstream.assessment.evidence import PACKAGE, Claim, committed, evidence, save
from slipstream.data import Ensemble, Reservoir
from slipstream.data.live.engine import Delivered, Engine, Member
from slipstream.data.live.programs import Programs
from slipstream.grids import Grid
from slipstream.problems import Recorded, Statistics

QUESTION = (
    "Do clients that take 50 ms a frame scale, and is a sample drawn as often as consumption over production says?"
)
SLEEP, FRAMES = 0.05, 40
CLIENTS = (1, 2, 4, 8)
SCALE_BAR, LAW_BAR = 0.85, 0.15
BATCH, STEP = 8, 0.1
"""Training: so many samples every so many seconds, as one client makes in four times that: 80 a second against 20."""
RESULT = Path(__file__).parent / "results" / "live.json"

CLIENT = f"""
import array, time
from slipstream import client
frame = memoryview(array.array("f", [0.5] * 1024)).cast("B").cast("f", (1, 32, 32))
for _ in range(client.run().steps):
    due = time.monotonic() + {SLEEP}
    client.send(frame)
    time.sleep(max(0.0, due - time.monotonic()))
client.finish()
"""


def sleeping(member: Member) -> Iterator[Tensor]:
    """The same client as a function."""
    for _ in range(member.steps):
        due = time.monotonic() + SLEEP
        yield torch.full((1, 32, 32), 0.5)
        time.sleep(max(0.0, due - time.monotonic()))


def _ray(clients: int) -> Engine:
    from slipstream.data.live.ray import RayEngine

    return RayEngine(clients=clients, cores=0, solver=sleeping)


ENGINES: dict[str, Callable[[int], Engine]] = {
    "programs, pipe": lambda k: Programs([sys.executable, "-c", CLIENT], k, shape=(1, 32, 32)),
    "programs, socket": lambda k: Programs([sys.executable, "-c", CLIENT], k, transport="socket"),
}
if importlib.util.find_spec("ray") is not None:
    ENGINES["ray"] = _ray


def _frames(engine: Engine) -> list[Delivered]:
    events = engine.poll(wait=True)
    frames = [e for e in events if isinstance(e, Delivered)]
    if len(frames) < len(events):
        raise RuntimeError(f"A client that only sleeps ended: {events[-1]}")
    return frames


def rate(engine: Engine) -> float:
    """Frames a second once every client is at work, over `FRAMES` frames a client."""
    k = engine.clients
    engine.submit([Member(i, i, {}, 1_000_000) for i in range(k)])
    seen: set[int] = set()
    while len(seen) < k:
        seen |= {e.member for e in _frames(engine)}
    start, count = time.perf_counter(), 0
    while count < FRAMES * k:
        count += len(_frames(engine))
    passed = time.perf_counter() - start
    engine.close()
    return count / passed


def scaling() -> list[dict[str, Any]]:
    rows = []
    for name, make in ENGINES.items():
        rates = {k: rate(make(k)) for k in CLIENTS}
        rows += [
            {
                "what": "scaling",
                "engine": name,
                "clients": k,
                "frames_a_second": round(rates[k], 1),
                "of_ideal": round(rates[k] / (k * rates[CLIENTS[0]]), 3),
            }
            for k in CLIENTS
        ]
    return rows


def law(clients: int) -> dict[str, Any]:
    """How often samples are drawn, against consumption over production; never less than once, for then production is held back."""
    grid = Grid.box(32, num_dims=2)
    problem = Recorded(grid, 1.0, ["u"], Statistics((0.0,), (1.0,), (1.0,)))
    engine = ENGINES["programs, pipe"](clients)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a buffer that is too small to mix, which nobody here learns from
        source = Ensemble(problem, steps=1_000_000, batch=BATCH, engine=engine, buffer=Reservoir(64))
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        source.next(generator)
        time.sleep(STEP)
    produced, consumed, start = source.buffer.produced, source.buffer.consumed, time.perf_counter()
    for _ in range(60):
        due = time.perf_counter() + STEP
        source.next(generator)
        time.sleep(max(0.0, due - time.perf_counter()))
    passed = time.perf_counter() - start
    produced, consumed = source.buffer.produced - produced, source.buffer.consumed - consumed
    source.close()
    engine.close()
    expected = max(1.0, consumed / passed * SLEEP / clients)
    return {
        "what": "law",
        "clients": clients,
        "produced_a_second": round(produced / passed, 1),
        "consumed_a_second": round(consumed / passed, 1),
        "repetitions": round(consumed / produced, 3),
        "expected": round(expected, 3),
        "off_by": round(abs(consumed / produced / expected - 1), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument(
        "--dirty", action="store_true", help="let code through that is in no commit; the result is marked"
    )
    commit = committed(PACKAGE, Path(__file__), dirty=parser.parse_args().dirty)
    torch.set_num_threads(1)
    began = time.perf_counter()
    rows = scaling() + [law(k) for k in CLIENTS]
    claims = [
        Claim(
            f"{name}: 8 clients that sleep give at least {SCALE_BAR:.0%} of eight times what one gives.",
            "effect",
            next(r["of_ideal"] for r in rows if r.get("engine") == name and r["clients"] == 8),
            SCALE_BAR,
            "at least",
        )
        for name in ENGINES
    ]
    claims.append(
        Claim(
            f"Samples are drawn max(1, consumption / production) times within {LAW_BAR:.0%}, for 1 to 8 clients.",
            "effect",
            max(r["off_by"] for r in rows if r["what"] == "law"),
            LAW_BAR,
            "at most",
        )
    )
    result = evidence(
        question=QUESTION,
        rows=rows,
        claims=claims,
        seeds=[0],
        minutes=(time.perf_counter() - began) / 60,
        commit=commit,
        packages=["ray"] if "ray" in ENGINES else [],
    )
    save(RESULT, result)
    for row in [*result["rows"], *result["claims"]]:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
