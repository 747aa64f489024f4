"""The budget check: what a network may cost at the most, before it is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from slipstream.assessment import speed
from slipstream.assessment.verification import UNSEEN
from slipstream.problems.problem import Problem
from slipstream.stepper import Stepper
from slipstream.steppers.rolling import rollout

WORTHWHILE = 2.0


@dataclass(frozen=True)
class Budget:
    """What the classical solver leaves to be won.

    Attributes
    ----------
    error : that a network must reach at the end of the job. job : what the job is.
    setting, seconds : the cheapest classical setting that reaches it and its time for one run; None if no rung does.
    costs : seconds that each untrained stepper takes for the same job.
    """

    error: float
    job: str
    setting: str | None
    seconds: float | None
    costs: Mapping[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """The speed-up that the cheapest of the steppers could reach at the most; infinite if no rung reaches the error."""
        return math.inf if self.seconds is None else self.seconds / min(self.costs.values())

    @property
    def worthwhile(self) -> bool:
        return self.ratio >= WORTHWHILE

    def __str__(self) -> str:
        name, cost = min(self.costs.items(), key=lambda item: item[1])
        if self.seconds is None:
            return f"Budget: no classical setting tried reaches {self.error:.2g} on {self.job}; {name} takes {1e3 * cost:.3g} ms."
        advice = (
            ""
            if self.worthwhile
            else f" Below {WORTHWHILE:g} training does not pay: a smaller network, longer jumps or a harder problem would."
        )
        return (
            f"Budget: a network must reach {100 * self.error:.3g} % on {self.job} in less than {1e3 * self.seconds:.3g} ms "
            f"({self.setting}); the smallest of yours ({name}) costs {1e3 * cost:.3g} ms; "
            f"the ratio is at most {self.ratio:.3g}.{advice}"
        )


def budget(problem: Problem, steppers: Mapping[str, Stepper], error: float = 0.01, steps: int = 20) -> Budget:
    """Tune the classical ladder on fresh runs and time the untrained steppers on the same job, one thread.

    Parameters
    ----------
    error : relative L2 error that is wanted at the end. steps : frames of the job (a steady problem has one).
    """
    steps = 1 if problem.steady else steps
    whole = problem.simulate(2, steps if problem.steady else steps + 1, seed=UNSEEN + 1)
    known, truth = (whole, whole) if problem.steady else (whole[:, :1], whole[:, 1:])
    able = [rung for _, rung in speed.ladder(problem, known, truth) if rung.error <= error]
    best = min(able, key=lambda r: r.seconds, default=None)
    one = known[:1]

    def job(stepper: Stepper):
        return lambda: rollout(stepper, one, steps, guard=False)

    with speed.threads(1):
        costs = speed.race({name: job(s) for name, s in steppers.items()}, rounds=5, budget=10.0)
    return Budget(
        error,
        speed.job_of(problem, steps),
        None if best is None else best.name,
        None if best is None else best.seconds,
        costs,
    )
