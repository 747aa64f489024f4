"""Every random generator that a training may draw from: seeded, read and set back as one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_all(seed: int, rank: int, generator: torch.Generator) -> None:
    """Give the run's generator and the global ones of torch, numpy and Python independent streams, others on every process.

    A seed sequence and not seed + rank: torch's Mersenne Twister sees 32 bits only, and neighbouring seeds are neighbouring runs.
    """
    own, torches, numpys, pythons = (int(word) for word in np.random.SeedSequence([seed, rank]).generate_state(4))
    generator.manual_seed(own)
    torch.manual_seed(torches)
    np.random.seed(numpys)  # noqa: NPY002 - sources and callbacks may draw from the global one
    random.seed(pythons)


def random_state(generator: torch.Generator | None = None) -> dict[str, Any]:
    """The state of every global generator, and of `generator`."""
    numpys: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    numpys["state"]["key"] = numpys["state"]["key"].tolist()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": numpys,
        "python": random.getstate(),
        "own": None if generator is None else generator.get_state(),
    }


def set_random_state(state: dict[str, Any], generator: torch.Generator | None = None) -> None:
    """Undo `random_state`."""
    torch.set_rng_state(state["torch"])
    for device, cuda in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda, device)
    numpys = state["numpy"]
    np.random.set_state(  # noqa: NPY002
        {**numpys, "state": {**numpys["state"], "key": np.array(numpys["state"]["key"], dtype=np.uint32)}}
    )
    random.setstate(state["python"])
    if generator is not None:
        generator.set_state(state["own"])


@contextmanager
def undisturbed() -> Iterator[None]:
    """The caller's global generators are afterwards as they were before."""
    before = random_state()
    try:
        yield
    finally:
        set_random_state(before)
