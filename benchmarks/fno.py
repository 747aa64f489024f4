"""Our Fourier neural operator against the one of neuraloperator: the same function, the same training, less time.

Run ``python benchmarks/fno.py`` on an otherwise idle machine; ten minutes, most of them compiling. It needs, in the same environment:
``pip install "neuraloperator==2.0.0" tensorly tensorly-torch onnx onnxruntime onnxscript``. Writes ``benchmarks/results/fno.json``.

Both have the peer's default parts: lifting and projection networks twice as wide as the rest, linear skip, gated channel networks of
half the width, GELU. The one default changed is ``positional_embedding=None`` (ours: ``coordinates=False``). So the parameters are
the same in number and can be carried over one by one, and the two are then one function up to rounding, which is checked first.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from slipstream.assessment.evidence import PACKAGE, Claim, committed, evidence, save
from slipstream.operators import FNO
from slipstream.operators.layers import ChannelMLP

QUESTION = "Is our FNO faster than neuraloperator's at equal parameters, equal function and equal training?"
SETTINGS = {"n_modes": (16, 16), "in_channels": 1, "out_channels": 1, "hidden_channels": 32, "n_layers": 4}
POINTS, STEPS = 64, 40
BATCHES, THREADS = (1, 16), (1, 2)
EAGER_BAR = {1: 1.2, 16: 0.9}
TRAINING_BAR, BEST_BAR = 1.0, 2.0
FUNCTION_BAR, LOSS_BAR = 1e-5, 1e-4
RESULT = Path(__file__).parent / "results" / "fno.json"
Arms = dict[str, Callable[[], object]]


def peer_model() -> nn.Module:
    try:
        from neuralop.models import FNO as Peer
    except ImportError as error:
        sys.exit(f'This benchmark compares with neuraloperator ({error}). pip install "neuraloperator==2.0.0"')
    return Peer(**SETTINGS, positional_embedding=None)


def count(model: nn.Module) -> int:
    """Real numbers among the parameters: a complex one is two."""
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in model.parameters())


def like(peer: nn.Module, form: str = "fft") -> FNO:
    """Ours with the peer's weights."""
    model = FNO(**SETTINGS, form=form)

    def carry(ours: ChannelMLP, theirs: nn.Module) -> None:
        for layer, conv in zip((ours.first, ours.second), theirs.fcs, strict=True):
            layer.weight.copy_(conv.weight[..., 0])
            layer.bias.copy_(conv.bias[:, None])

    with torch.no_grad():
        carry(model.lifting, peer.lifting)
        carry(model.projection, peer.projection)
        for i, block in enumerate(model.blocks):
            conv = peer.fno_blocks.convs[i]
            weight = torch.view_as_real(conv.weight.to_tensor())  # (in, out, mode, mode, 2)
            block.spectral.weight.copy_(weight.permute(2, 3, 0, 4, 1))
            block.linear.weight.copy_(peer.fno_blocks.fno_skips[i].conv.weight[..., 0])
            block.linear.bias.copy_(conv.bias.flatten(1))
            block.gate.copy_(peer.fno_blocks.channel_mlp_skips[i].weight[0])
            carry(block.mlp, peer.fno_blocks.channel_mlp[i])
    return model


def distance(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def compare(arms: Arms, repeats: int) -> dict[str, float]:
    """Milliseconds, the best of `repeats` taken in turn: whatever else the machine does hits every arm alike."""
    best = dict.fromkeys(arms, float("inf"))
    for work in arms.values():
        for _ in range(3):
            work()
    for _ in range(repeats):
        for name, work in arms.items():
            began = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - began)
    return {name: 1e3 * seconds for name, seconds in best.items()}


def onnx_session(model: nn.Module, x: Tensor, threads: int) -> Callable[[], object]:
    try:
        import onnxruntime
    except ImportError as error:
        sys.exit(f"One arm runs in onnxruntime ({error}). pip install onnx onnxruntime onnxscript")
    with tempfile.TemporaryDirectory(prefix="slipstream-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "fno.onnx"
        torch.onnx.export(model, (x,), path, dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name, values = session.get_inputs()[0].name, x.numpy()
    return lambda: session.run(None, {name: values})[0]


def inference(peer: nn.Module, batch: int, threads: int, repeats: int) -> dict:
    """One forward pass: eager in both forms, compiled (ours and the peer's), and onnxruntime."""
    torch.set_num_threads(threads)
    torch._dynamo.reset()
    x = torch.randn(batch, 1, POINTS, POINTS)
    models = {"peer": peer, "fft": like(peer), "dft": like(peer, "dft")}
    models |= {"compiled peer": torch.compile(peer), "compiled dft": torch.compile(like(peer, "dft"))}

    def call(model: nn.Module) -> Callable[[], object]:
        def work() -> Tensor:
            with torch.inference_mode():
                return model(x)

        return work

    arms: Arms = {name: call(model.eval()) for name, model in models.items()}
    arms["onnxruntime dft"] = onnx_session(like(peer, "dft").eval(), x, threads)
    expected = arms["peer"]()
    errors = {name: distance(torch.as_tensor(work()), expected) for name, work in arms.items()}
    times = compare(arms, repeats)
    return {
        "what": "forward",
        "batch": batch,
        "threads": threads,
        "milliseconds": {k: round(v, 3) for k, v in times.items()},
        "speed_up": {k: times["peer"] / v for k, v in times.items() if k != "peer"},
        "difference": errors,
    }


def training_time(peer: nn.Module, batch: int, threads: int, repeats: int) -> dict:
    """One step of Adam, forward and backward, eager."""
    torch.set_num_threads(threads)
    x, y = torch.randn(2, batch, 1, POINTS, POINTS)

    def step(model: nn.Module) -> Callable[[], object]:
        optimiser = torch.optim.Adam(model.parameters(), 1e-4)

        def work() -> None:
            optimiser.zero_grad(set_to_none=True)
            (model(x) - y).square().mean().backward()
            optimiser.step()

        return work

    start = {k: v.clone() for k, v in peer.state_dict().items() if isinstance(v, Tensor)}
    models = {"peer": peer, "fft": like(peer), "dft": like(peer, "dft")}
    times = compare({name: step(model.train()) for name, model in models.items()}, repeats)
    peer.load_state_dict(start, strict=False)
    return {
        "what": "training step",
        "batch": batch,
        "threads": threads,
        "milliseconds": {k: round(v, 3) for k, v in times.items()},
        "speed_up": {k: times["peer"] / v for k, v in times.items() if k != "peer"},
    }


def same_training(peer: nn.Module) -> dict:
    """Adam from equal weights on equal data: the losses must stay together, step by step."""
    torch.set_num_threads(1)
    grid = torch.fft.fftfreq(POINTS, 1 / POINTS)
    smooth = torch.exp(-(grid[:, None] ** 2 + grid[: POINTS // 2 + 1] ** 2) / 32)
    x = 8 * torch.fft.irfft2(smooth * torch.fft.rfft2(torch.randn(4, 1, POINTS, POINTS)))
    y = (x + 0.3 * x.roll((3, -5), (2, 3))).tanh()
    ours, losses = like(peer), {}
    for name, model in {"peer": peer, "ours": ours}.items():
        optimiser, losses[name] = torch.optim.Adam(model.parameters(), 1e-3), []
        for _ in range(STEPS):
            optimiser.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            optimiser.step()
            losses[name].append(loss.item())
    apart = max(abs(a - b) / b for a, b in zip(losses["ours"], losses["peer"], strict=True))
    ends = {name: [values[0], values[-1]] for name, values in losses.items()}
    return {"what": "training", "steps": STEPS, "first_and_last_loss": ends, "largest_relative_difference": apart}


def claim(text: str, kind: Literal["law", "effect"], measured: float, bar: float, at_least: bool = True) -> Claim:
    return Claim(text, kind, measured, bar, "at least" if at_least else "at most")


def claims(rows: list[dict], parameters: dict[str, int]) -> list[Claim]:
    found = [claim("As many parameters as the peer.", "law", abs(parameters["ours"] - parameters["peer"]), 0, False)]
    for row in rows:
        where = f"batch {row.get('batch')}, {row.get('threads')} thread(s)"
        if row["what"] == "forward":
            speed = row["speed_up"]
            worst = max(row["difference"].values())
            best = max(v for k, v in speed.items() if k != "compiled peer")
            bar = EAGER_BAR[row["batch"]]
            found += [
                claim(f"Every arm computes the peer's function: {where}.", "law", worst, FUNCTION_BAR, False),
                claim(f"The default form, eager, against the peer, eager: {where}.", "effect", speed["fft"], bar),
                claim(f"The best exact form against the peer, eager: {where}.", "effect", best, BEST_BAR),
                claim(
                    f"The best exact form against the better of the peer, eager and compiled: {where}.",
                    "effect",
                    best / max(1.0, speed["compiled peer"]),
                    1.0,
                ),
            ]
        elif row["what"] == "training step":
            found.append(
                claim(f"A training step, default form: {where}.", "effect", row["speed_up"]["fft"], TRAINING_BAR)
            )
        else:
            apart = row["largest_relative_difference"]
            found.append(claim(f"Equal loss at each of {STEPS} training steps.", "law", apart, LOSS_BAR, False))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--repeats", type=int, default=60, help="interleaved repeats of each arm at batch 1")
    parser.add_argument("--out", type=Path, default=RESULT, help="where to write the result")
    parser.add_argument(
        "--dirty", action="store_true", help="let code through that is in no commit; the result is marked"
    )
    arguments = parser.parse_args()
    commit = committed(PACKAGE, Path(__file__), dirty=arguments.dirty)
    warnings.filterwarnings("ignore", module="neuralop|tltorch|tensorly")
    began, load = time.perf_counter(), os.getloadavg()[0]
    torch.manual_seed(0)
    peer = peer_model()
    parameters = {"peer": count(peer), "ours": count(like(peer))}
    rows: list[dict] = [{"what": "parameters", **parameters}]
    for threads in THREADS:
        for batch in BATCHES:
            repeats = arguments.repeats if batch == 1 else max(1, arguments.repeats // 4)
            for measure in (inference, training_time):
                rows.append(measure(peer, batch, threads, repeats))
                print(json.dumps(rows[-1]), flush=True)
    rows.append(same_training(peer))
    result = evidence(
        question=QUESTION,
        rows=rows,
        claims=claims(rows[1:], parameters),
        seeds=[0],
        minutes=(time.perf_counter() - began) / 60,
        commit=commit,
        packages=["neuraloperator", "onnxruntime"],
        machine={"load before": load},
    )
    save(arguments.out, result)
    for row in result["claims"]:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
