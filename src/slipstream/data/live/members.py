"""Members: how the number of a run becomes its seed, its parameters and its initial state, wherever it is computed."""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.data.live.engine import Member
from slipstream.problems.problem import Problem


def seed_of(seed: int, number: int) -> int:
    """The seed of run `number` of an ensemble with this seed: below 2^31, so that any program can take it."""
    return int.from_bytes(hashlib.sha256(f"member {seed} {number}".encode()).digest()[:4], "little") >> 1


def start_of(
    problem: Problem, member: Member
) -> tuple[Float[Tensor, "1 time channel *space"], dict[str, Float[Tensor, "..."]]]:
    """Initial frame and parameters of a run, with a run axis of one.

    They are those of ``problem.sample([0], member.seed)``, but that the member's own parameters stand for the drawn ones: one whose
    parameters are the problem's own draw is run 0 of ``problem.simulate(1, steps, member.seed)``.
    """
    given = {name: value[None] for name, value in member.parameters.items()}
    with torch.no_grad():
        return problem.sample([0], member.seed, given or None)
