"""Sub-solvers in worker processes: the numbers of the loop, and one clear error where a process dies."""

from __future__ import annotations

import copy
import os
import signal
from functools import partial

import pytest
import torch

from slipstream.errors import InputError, SlipstreamError
from slipstream.operators import UNet
from slipstream.problems import KolmogorovFlow
from slipstream.problems.problem import Statistics
from slipstream.steppers import Staggered, rollout
from slipstream.steppers.executions import version
from slipstream.steppers.workers import Workers

PROBLEM = KolmogorovFlow(num_points=16, reynolds=(20.0, 40.0), interval=0.05, warm_up=0.5)
PARAMETERS = {"viscosity": torch.tensor([0.03, 0.04])}


@pytest.fixture(scope="module")
def stepper():
    torch.manual_seed(0)
    made = Staggered(
        partial(UNet, hidden_channels=4, levels=1),
        PROBLEM,
        space=2,
        time=2,
        statistics=Statistics((0.0,), (3.0,), (0.3,)),
    )
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.1)
    yield made
    made.execution = "loop"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def looped(stepper, past):
    twin = copy.deepcopy(stepper)
    twin.execution = "loop"
    return rollout(twin, past, 3, parameters=PARAMETERS)


def test_processes_give_the_numbers_of_the_loop_and_survive_a_death(stepper):
    past = torch.randn(2, 2, 1, 16, 16)
    stepper.execution = "processes"
    workers = stepper._execution.workers
    workers.count = 2  # whatever this machine has
    assert workers.processes == []  # nothing is started before it is needed
    found = rollout(stepper, past, 3, parameters=PARAMETERS)
    assert torch.allclose(found, looped(stepper, past), atol=1e-6)
    first = workers.processes
    assert len(set(first)) == 2
    assert os.getpid() not in first

    with torch.no_grad():  # new weights are noticed
        stepper.networks[5].leave.bias.add_(0.5)
    again = rollout(stepper, past, 3, parameters=PARAMETERS)
    assert torch.allclose(again, looped(stepper, past), atol=1e-6)
    assert not torch.allclose(again, found, atol=1e-3)
    assert workers.processes == first

    networks = list(stepper.networks)
    with torch.no_grad(), pytest.raises(SlipstreamError, match="failed in a worker process: ShapeError"):
        workers(networks, torch.zeros(8, 1, 5, 7, 7), torch.zeros(1, 1), version(networks))
    assert workers.processes == first  # that was no death

    os.kill(first[0], signal.SIGKILL)
    with pytest.raises(SlipstreamError, match=r"died \(exit codes \[-9, None\]"):
        rollout(stepper, past, 3, parameters=PARAMETERS)
    assert not any(alive(pid) for pid in first)
    assert torch.allclose(rollout(stepper, past, 3, parameters=PARAMETERS), again, atol=1e-6)
    second = workers.processes
    assert not set(first) & set(second)
    stepper.execution = "loop"  # which closes them
    assert not any(alive(pid) for pid in second)


def test_processes_are_for_inference(stepper):
    stepper.execution = "processes"
    with pytest.raises(InputError, match="for inference"):
        stepper(torch.randn(2, 2, 1, 16, 16), PARAMETERS)
    assert stepper._execution.workers.processes == []


def test_copies_are_teams_that_have_not_started(stepper):
    stepper.execution = "processes"
    stepper._execution.workers.count = 3
    twin = copy.deepcopy(stepper)
    assert twin.execution == "processes"
    assert twin._execution.workers is not stepper._execution.workers
    assert twin._execution.workers.count == 3


def test_networks_that_cannot_be_sent_are_refused():
    class Local(torch.nn.Module):
        def forward(self, x):
            return x

    workers = Workers(2)
    with pytest.raises(InputError, match="cannot be sent"):
        workers([Local(), Local()], torch.zeros(2, 1, 1, 4), None)
    assert workers.processes == []
