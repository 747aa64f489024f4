"""A model of another package, verified: neuraloperator's FNO, trained by its own parts, judged like one of the house.

Run ``python benchmarks/stranger.py``; three minutes. It needs ``pip install "neuraloperator==2.0.0" tensorly tensorly-torch`` in the same
environment. Writes ``benchmarks/results/stranger.json``.

The peer gets frames of ours as plain tensors and is trained by its own loss; nothing of slipstream is inside. `wrap` then says how far it
jumps, and `verify` judges it. What has to hold is that wrapping changes nothing: the rollout is the model applied again and again, and the
figures are those that anyone computes from it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

import slipstream as ss
from slipstream.assessment.evidence import PACKAGE, Claim, committed, evidence, save
from slipstream.assessment.verification import UNSEEN

QUESTION = "Is a neuraloperator FNO judged by verify exactly as it would be by hand?"
RESULT = Path(__file__).parent / "results" / "stranger.json"
STEPS, RUNS = 20, 4


def peer_model() -> nn.Module:
    try:
        from neuralop.models import FNO as Peer
    except ImportError as error:
        sys.exit(f'This benchmark wraps a model of neuraloperator ({error}). pip install "neuraloperator==2.0.0"')
    return Peer(n_modes=(12, 12), in_channels=1, out_channels=1, hidden_channels=24, n_layers=4)


def trained(model: nn.Module, frames: Tensor, seconds: float) -> int:
    """Their model and their loss in a plain loop, on pairs of consecutive frames in units of the frames' spread."""
    from neuralop.losses import LpLoss

    loss, optimiser = LpLoss(d=2, p=2), torch.optim.AdamW(model.parameters(), lr=2e-3)
    before, after = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
    generator, steps, start = torch.Generator().manual_seed(0), 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        chosen = torch.randint(len(before), (16,), generator=generator)
        optimiser.zero_grad()
        loss(model(before[chosen]), after[chosen]).backward()
        optimiser.step()
        steps += 1
    return steps


class InUnits(nn.Module):
    """Their model, which was trained on numbers of order one, in physical units."""

    def __init__(self, model: nn.Module, scale: float) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, w: Tensor) -> Tensor:
        return self.model(w / self.scale) * self.scale


def by_hand(model: nn.Module, w: Tensor, steps: int) -> Tensor:
    frames = []
    with torch.no_grad():
        for _ in range(steps):
            w = model(w)
            frames.append(w)
    return torch.stack(frames, dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--seconds", type=float, default=120, help="of training the peer")
    parser.add_argument("--out", type=Path, default=RESULT, help="where to write the result")
    parser.add_argument(
        "--dirty", action="store_true", help="let code through that is in no commit; the result is marked"
    )
    arguments = parser.parse_args()
    commit = committed(PACKAGE, Path(__file__), dirty=arguments.dirty)
    warnings.filterwarnings("ignore", module="neuralop|tltorch|tensorly")
    torch.manual_seed(0)
    began = time.perf_counter()

    problem = ss.problems.KolmogorovFlow(num_points=32, reynolds=40, interval=0.1)
    seen = problem.simulate(runs=16, steps=40, seed=0).frames
    scale = float(seen.std())
    model = peer_model()
    steps = trained(model, seen / scale, arguments.seconds)
    theirs = InUnits(model, scale).eval()
    weights = {k: v.clone() for k, v in theirs.state_dict().items() if isinstance(v, Tensor)}

    stepper = ss.steppers.wrap(theirs, interval=0.1, channels=["vorticity"])
    report = ss.verify(stepper, problem, runs=RUNS, steps=STEPS)
    print(report.verdict)

    truth = problem.simulate(runs=RUNS, steps=STEPS + 2, seed=UNSEEN).frames
    hand = by_hand(theirs, truth[:, 1], STEPS)
    ours = ss.rollout(stepper, problem.simulate(runs=RUNS, steps=2, seed=UNSEEN), steps=STEPS).frames
    gap = float((hand - ours).abs().max() / hand.abs().max())
    error = (hand - truth[:, 2:]).flatten(2).norm(dim=-1) / truth[:, 2:].flatten(2).norm(dim=-1)
    said = torch.tensor(report.metrics["model"]["relative_l2"])
    figures = float(((said - error.mean(0)) / error.mean(0)).abs().max())
    moved = max(float((v - weights[k]).abs().max()) for k, v in theirs.state_dict().items() if k in weights)
    last = {arm: values["relative_l2"][-1] for arm, values in report.metrics.items()}
    rows = [
        {"what": "training", "steps": steps, "parameters": sum(p.numel() for p in model.parameters())},
        {"what": "error after 20 frames", **last},
        {"what": "verdict", "sentence": report.verdict},
    ]
    claims = [
        Claim("The wrapped model's rollout is the model applied again and again.", "law", gap, 1e-6, "at most"),
        Claim("verify's errors are those computed by hand.", "law", figures, 1e-5, "at most"),
        Claim("Verification leaves every weight as it was.", "law", moved, 0.0, "at most"),
        Claim("After two minutes of training it beats persistence after 20 frames.", "effect",
              last["model"] / last["persistence"], 1.0, "at most"),
    ]  # fmt: skip
    result = evidence(
        question=QUESTION, rows=rows, claims=claims, seeds=[0], minutes=(time.perf_counter() - began) / 60, commit=commit,
        packages=["neuraloperator"],
    )  # fmt: skip
    save(arguments.out, result)
    for row in result["claims"]:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
