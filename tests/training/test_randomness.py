"""Random generators are seeded apart and set back exactly."""

import random

import numpy as np
import torch

from slipstream.training.checkpoint import pack, unpack
from slipstream.training.randomness import random_state, seed_all, set_random_state, undisturbed


def draw(generator):
    return [
        torch.randn(3, generator=generator).tolist(),
        torch.randn(3).tolist(),
        np.random.randn(3).tolist(),  # noqa: NPY002
        [random.gauss(0, 1) for _ in range(3)],
    ]


def test_every_generator_goes_on_from_its_state_through_a_file():
    """Three normal numbers: an odd count leaves half a pair waiting inside the generators."""
    generator = torch.Generator()
    with undisturbed():
        seed_all(0, 0, generator)
        draw(generator)
        state = unpack(pack(random_state(generator)))
        expected = draw(generator)
        draw(generator)
        set_random_state(state, generator)
        assert draw(generator) == expected


def test_seeds_and_processes_and_generators_have_streams_of_their_own():
    found = []
    with undisturbed():
        for seed, rank in ((0, 0), (0, 1), (1, 0), (1, 1)):
            generator = torch.Generator()
            seed_all(seed, rank, generator)
            found += draw(generator)
        seed_all(0, 0, generator)
        assert draw(generator) == found[:4]
    assert len({tuple(f) for f in found}) == 16


def test_the_callers_generators_are_undisturbed():
    generator = torch.Generator().manual_seed(3)
    before = random_state(generator)
    with undisturbed():
        seed_all(9, 0, torch.Generator())
        draw(torch.Generator())
    after = random_state(generator)
    assert torch.equal(before["torch"], after["torch"])
    assert before["numpy"] == after["numpy"]
