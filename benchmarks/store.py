"""What storing costs: a spectral simulation with and without a store, codecs, and shuffled reading.

Run ``python benchmarks/store.py``; two minutes. Writes ``benchmarks/results/store.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from slipstream.assessment.evidence import PACKAGE, Claim, committed, evidence, save
from slipstream.data.store import Store
from slipstream.data.windows import Windows
from slipstream.grids import Grid

QUESTION = "Does storing every 5th step of a 64 x 64 spectral simulation cost at most a tenth of simulating?"
BAR = 0.10
TARGET_RATE = 12_000  # trajectory-steps a second, at which the bar is meant
N, RUNS, STEPS, EVERY, REPEATS = 64, 8, 640, 5, 30
RESULT = Path(__file__).parent / "results" / "store.json"


class Vorticity:
    """Semi-implicit Euler for 2D vorticity: five transforms a step, about the cheapest honest spectral step."""

    def __init__(self, grid: Grid, dt: float = 2e-3, viscosity: float = 1e-2) -> None:
        self.kx, self.ky = grid.wavenumbers()
        k2 = self.kx**2 + self.ky**2
        self.inverse = 1 / k2.masked_fill(k2 == 0, torch.inf)
        self.keep = ((self.kx.abs() < N / 3) & (self.ky < N / 3)).float() * dt
        self.damp = 1 / (1 + dt * viscosity * k2)

    def step(self, w: Tensor) -> Tensor:
        psi = w * self.inverse
        terms = torch.stack([1j * self.ky * psi, -1j * self.kx * psi, 1j * self.kx * w, 1j * self.ky * w])
        u, v, wx, wy = torch.fft.irfft2(terms)
        return (w - self.keep * torch.fft.rfft2(u * wx + v * wy)) * self.damp


def simulate(flow: Vorticity, w: Tensor, keep: Callable[[int, Tensor], None]) -> None:
    for i in range(STEPS):
        if i % EVERY == 0:
            keep(i // EVERY, torch.fft.irfft2(w)[:, None, None])
        w = flow.step(w)


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Of wall and of processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def cost(flow: Vorticity, w: Tensor, grid: Grid, path: Path, cores: int) -> dict:
    """Short pieces with and without a store in turn, the best of each: what else the machine does hits both alike.

    A piece with the store ends when all its frames are on the disk, which a longer simulation would not wait for.
    """
    allowed = sorted(os.sched_getaffinity(0))
    frames = STEPS // EVERY
    plain, storing = [], []
    began = time.perf_counter()
    with Store.create(path, grid=grid, channels=["w"], interval=0.01, runs=RUNS, steps=REPEATS * frames) as store:
        created = time.perf_counter() - began
        assert frames % store.chunk[1] == 0, "a piece must fill whole chunks"

        def stored(first: int) -> None:
            simulate(flow, w, lambda i, frame: store.write(slice(0, RUNS), first + i, frame))
            store.flush()

        os.sched_setaffinity(0, allowed[:cores])
        try:
            for i in range(REPEATS):
                plain.append(seconds(lambda: simulate(flow, w, lambda i, frame: None)))
                storing.append(seconds(lambda first=i * frames: stored(first)))
        finally:
            os.sched_setaffinity(0, allowed)
        assert store.done
    (wall, cpu), (wall_stored, cpu_stored) = map(_best, (plain, storing))
    steps = RUNS * STEPS
    return {
        "what": "simulate and store",
        "cores": min(cores, len(allowed)),
        "trajectory_steps_per_second": round(steps / wall),
        "with_store": round(steps / wall_stored),
        "cost": wall_stored / wall - 1,
        "cost_at_target_rate": (wall_stored - wall) / steps * TARGET_RATE,
        "processor_cost": cpu_stored / cpu - 1,
        "seconds_to_create": created,
    }


def _best(times: list[tuple[float, float]]) -> tuple[float, float]:
    walls, cpus = zip(*times, strict=True)
    return min(walls), min(cpus)


def codecs(frames: np.ndarray, folder: Path) -> list[dict]:
    """Megabytes a second into and out of a chunk of the store's size, and how much smaller it gets."""
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

    arms = {
        "none": None,
        "crc32c (the store's)": [Crc32cCodec()],
        "zstd 1": [ZstdCodec(level=1)],
        "blosc lz4, shuffled": [BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")],
        "blosc zstd 1, shuffled": [BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")],
    }
    best = {name: [np.inf, np.inf] for name in arms}
    sizes = {}
    for repeat in range(10):
        for i, (name, compressors) in enumerate(arms.items()):
            array = zarr.create_array(
                folder / f"codec-{i}-{repeat}",
                shape=frames.shape,
                chunks=(RUNS, 32, *frames.shape[2:]),
                dtype=frames.dtype,
                compressors=compressors,
                config={"write_empty_chunks": True},
            )
            start = time.perf_counter()
            array[...] = frames
            middle = time.perf_counter()
            array[...]
            seconds = [middle - start, time.perf_counter() - middle]
            best[name] = [min(a, b) for a, b in zip(best[name], seconds, strict=True)]
            sizes[name] = array.nbytes_stored()
    megabytes = frames.nbytes / 1e6
    return [
        {
            "what": "codec",
            "codec": name,
            "write_MB_per_second": round(megabytes / best[name][0]),
            "read_MB_per_second": round(megabytes / best[name][1]),
            "smaller_by": round(frames.nbytes / sizes[name], 3),
        }
        for name in arms
    ]


def reading(path: Path) -> dict:
    """Shuffled windows of a store four times as large as the memory allowed, against the same from memory."""
    store = Store.open(path)
    loaded = store.trajectories()
    rates = {}
    sources = {"store": Windows(store, 5, 32, memory=loaded.frames.nbytes // 4), "memory": Windows(loaded, 5, 32)}
    for _ in range(3):
        for name, windows in sources.items():
            generator, batches = torch.Generator().manual_seed(0), windows.num_windows // 32
            start = time.perf_counter()
            for _ in range(batches):
                windows.next(generator)
            rates[name] = max(rates.get(name, 0), batches * 32 / (time.perf_counter() - start))
    return {"what": "shuffled windows of 5 frames a second", **{k: round(v) for k, v in rates.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument(
        "--dirty", action="store_true", help="let code through that is in no commit; the result is marked"
    )
    commit = committed(PACKAGE, Path(__file__), dirty=parser.parse_args().dirty)
    torch.set_num_threads(1)
    began = time.perf_counter()
    grid = Grid.box(N, num_dims=2)
    flow = Vorticity(grid)
    noise = torch.randn(RUNS, N, N, generator=torch.Generator().manual_seed(0))
    w = torch.fft.rfft2(noise) * 20 * (flow.inverse * (flow.inverse > 1 / 64))
    with tempfile.TemporaryDirectory(prefix="slipstream-") as name:
        folder = Path(name)
        rows = [cost(flow, w, grid, folder / f"{cores}.zarr", cores) for cores in (2, 1)]
        frames = Store.open(folder / "2.zarr").trajectories(times=slice(0, 128)).frames.numpy()
        rows += [*codecs(frames, folder), reading(folder / "2.zarr")]
    claims = [
        Claim(
            f"Storing costs at most {BAR:.0%} of simulating on {row['cores']} core(s), also at {TARGET_RATE} steps/s.",
            "effect",
            max(row["cost"], row["cost_at_target_rate"]),
            BAR,
            "at most",
        )
        for row in rows[:2]
    ]
    result = evidence(
        question=QUESTION,
        rows=rows,
        claims=claims,
        seeds=[0],
        minutes=(time.perf_counter() - began) / 60,
        commit=commit,
        packages=["zarr"],
    )
    save(RESULT, result)
    for row in [*result["rows"], *result["claims"]]:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
