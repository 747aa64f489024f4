"""`slipstream.export`: a graph that gives the stepper's numbers, or an error and no file."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch

import slipstream as ss
from slipstream.assessment import exporting
from slipstream.compression import Accelerated, Batched, SpectralForm
from slipstream.compression.graph import NoGraph, open_graph
from slipstream.errors import InputError, MissingExtra
from slipstream.operators import FNO, UNet
from slipstream.problems import Recorded
from slipstream.steppers import Autoregressive, Staggered, Steady, wrap
from slipstream.trajectories import Trajectories

PROBLEM = ss.problems.KolmogorovFlow(num_points=16, reynolds=(10.0, 40.0), interval=0.05, warm_up=0.5)
FNO_ = partial(FNO, n_modes=(4, 4), hidden_channels=4, n_layers=2)
UNET = partial(UNet, hidden_channels=4, levels=1)
FORMATS = (".pt2", ".onnx")


def drawn(module):
    """With weights that do something: last layers that start at zero would agree with anything."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator))
    return module.eval()


@pytest.fixture(scope="module", params=["fno", "unet", "staggered"])
def stepper(request):
    made = {
        "fno": lambda: Autoregressive(FNO_, PROBLEM),
        "unet": lambda: Autoregressive(UNET, PROBLEM, history=2),
        "staggered": lambda: Staggered(partial(UNET, levels=0), PROBLEM, space=(2, 1), time=1),
    }
    return drawn(made[request.param]())


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_file_gives_the_same_numbers_for_any_batch(stepper, suffix, tmp_path):
    done = ss.export(stepper, tmp_path / f"model{suffix}")
    frames = PROBLEM.simulate(5, max(2, stepper.history), seed=11)
    past = stepper.start(frames.frames, frames.parameters).values
    run = open_graph(tmp_path / done.file)
    names = [n for n in done.inputs if n != "past"]
    for runs in (1, 5):
        with torch.no_grad():
            expected = stepper(past[:runs], {k: v[:runs] for k, v in frames.parameters.items()})
            found = run([past[:runs], *(frames.parameters[n][:runs] for n in names)])
        assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5
    assert list(done.output) == ["batch", *expected.shape[1:]]


def test_beside_it_stands_what_goes_in(stepper, tmp_path):
    ss.export(stepper, tmp_path / "model.pt2", batch=2)
    told = json.loads((tmp_path / "model.json").read_text())
    assert told["inputs"]["past"] == [2, stepper.history, 1, 16, 16]
    assert told["parameters"]["viscosity"]["unit"]
    low, high = told["parameters"]["viscosity"]["range"]
    assert low == pytest.approx(PROBLEM.varying["viscosity"][0])
    assert low < high
    assert told["channels"][0]["name"] == "vorticity"
    assert told["interval"] == PROBLEM.interval
    assert told["difference"] <= told["tolerance"]


def test_a_steady_stepper_takes_its_fields(tmp_path):
    grid = PROBLEM.grid
    data = Trajectories(
        torch.randn(6, 1, 1, *grid.shape), grid, 0.0, PROBLEM.channels, {"permeability": torch.rand(6, *grid.shape)}
    )
    made = drawn(Steady(partial(FNO, n_modes=(4, 4), hidden_channels=4), Recorded.of(data)))
    done = ss.export(made, tmp_path / "steady.onnx", data)
    assert list(done.inputs) == ["permeability"]
    x = torch.rand(2, *grid.shape)
    with torch.no_grad():
        expected = made(torch.empty(2, 0, 1, *grid.shape), {"permeability": x})
    assert torch.allclose(open_graph(tmp_path / "steady.onnx")([x]), expected, atol=1e-5)


def test_what_an_accelerated_stepper_computes_is_written_and_who_runs_it_is_not(tmp_path):
    plain = drawn(Autoregressive(FNO_, PROBLEM))
    fast = Accelerated(plain, [SpectralForm("dft"), Batched(1)])
    assert ss.export(fast, tmp_path / "a.pt2").difference == pytest.approx(
        ss.export(plain, tmp_path / "b.pt2").difference, abs=1e-6
    )


def test_the_original_keeps_its_form(tmp_path):
    plain = drawn(Autoregressive(FNO_, PROBLEM))
    ss.export(plain, tmp_path / "a.onnx")
    assert {m.form for m in plain.modules() if hasattr(m, "form")} == {"fft"}


def test_a_model_without_a_graph_is_refused_and_nothing_is_written(tmp_path):
    class Odd(ss.Stepper):
        interval, channels, grid = PROBLEM.interval, PROBLEM.channels, PROBLEM.grid

        def forward(self, past, parameters):
            return past * (2.0 if float(past.sum()) > 0 else 3.0)

    with pytest.raises(NoGraph, match="no graph as"):
        ss.export(Odd(), tmp_path / "odd.pt2", PROBLEM)
    assert not list(tmp_path.iterdir())


def test_other_numbers_are_refused_and_nothing_is_written(tmp_path, monkeypatch):
    right = open_graph
    monkeypatch.setattr(exporting, "open_graph", lambda path: lambda x: 1.001 * right(path)(x))
    with pytest.raises(NoGraph, match="other numbers"):
        ss.export(drawn(Autoregressive(FNO_, PROBLEM)), tmp_path / "off.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: (PROBLEM.solver(), "a.pt2"), "state of its own"),
        (lambda: (drawn(Autoregressive(UNET, PROBLEM)), "a.tflite"), r"\.pt2 or \.onnx"),
        (lambda: (wrap(lambda u: u, interval=0.05, channels=["vorticity"]), "a.pt2"), "no problem"),
    ],
)
def test_bad_input_says_what_to_do(make, message, tmp_path):
    stepper, name = make()
    with pytest.raises(InputError, match=message):
        ss.export(stepper, tmp_path / name)


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("slipstream.compression.graph.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"slipstream\[onnx\]"):
        ss.export(drawn(Autoregressive(UNET, PROBLEM)), tmp_path / "a.onnx")
