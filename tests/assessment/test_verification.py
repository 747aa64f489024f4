"""verify: what it says follows from what happened."""

from __future__ import annotations

import pytest
import torch

from slipstream.assessment import verify
from slipstream.problems import KolmogorovFlow
from slipstream.stepper import Stepper

PROBLEM = KolmogorovFlow(num_points=16, reynolds=8.0, interval=0.05, warm_up=0.5)


class Known(Stepper):
    """A fine classical solver, times a factor, broken in the runs that are named."""

    def __init__(self, factor: float = 1.0, broken: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.interval, self.grid, self.channels = PROBLEM.interval, PROBLEM.grid, PROBLEM.channels
        self.inner, self.factor, self.broken = PROBLEM.solver(PROBLEM.ladder()[-1], guard=False), factor, broken

    def forward(self, past, parameters):
        _, new = self.inner.advance(self.inner.start(past, parameters), parameters)
        new = self.factor * new
        for run in self.broken:
            new[run] = float("nan")
        return new


def test_an_accurate_stepper_has_small_errors_and_persistence_large_ones():
    report = verify(Known(), PROBLEM, runs=3, steps=4, ladder=False)
    errors = {arm: report.metrics[arm]["relative_l2"][-1] for arm in report.metrics}
    assert errors["model"] < 0.05 * errors["persistence"]
    assert report.metrics["mean"]["vrmse"] == pytest.approx([1.0] * 4, rel=1e-4)
    assert report.failures == ()


@pytest.mark.parametrize("broken", [(1,), (0, 1, 2)])
def test_failed_runs_are_in_the_first_sentence_and_no_speed_is_quoted(broken, tmp_path):
    report = verify(Known(broken=broken), PROBLEM, runs=3, steps=4)
    assert len(report.failures) == len(broken)
    assert report.speed is None
    expected = "failed in 1 of 3 runs" if len(broken) == 1 else "none of the 3 runs"
    assert expected in report.verdict
    assert expected in report.save(tmp_path / "report.html").read_text()


def test_a_useless_stepper_is_called_so():
    assert "nothing useful" in verify(Known(factor=3.0), PROBLEM, runs=2, steps=4, ladder=False).verdict


def test_equal_seeds_give_equal_figures():
    a, b = (verify(Known(), PROBLEM, runs=2, steps=3, ladder=False) for _ in range(2))
    assert a.metrics == b.metrics
    assert torch.equal(a.examples[0].truth, b.examples[0].truth)
