"""SineNets."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from slipstream.errors import InputError, ShapeError
from slipstream.operators import SineNet
from slipstream.operators.sinenet import WaveBlock, size_of_wave, widths_of_wave


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def on_paper(**arguments) -> SineNet:
    """Built without memory: only its parameters are counted."""
    with torch.device("meta"):
        return SineNet(**arguments)


def moved(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.double()


@pytest.mark.parametrize(("waves", "multiplier"), [(2, 1.8075), (4, 1.611), (6, 1.5), (8, 1.425)])
def test_the_published_networks_have_their_published_size(waves, multiplier):
    """Four frames of three fields in, one out: 35,490,219 parameters in eight waves, and as many to 0.05 % in fewer."""
    found = size(on_paper(in_channels=12, out_channels=3, waves=waves, multiplier=multiplier))
    assert found == pytest.approx(35_490_219, rel=5e-4)
    assert waves != 8 or found == 35_490_219


@pytest.mark.parametrize(("dims", "disentangled", "num_scalars"), [(1, True, 0), (2, False, 2), (3, True, 1)])
def test_unless_told_otherwise_all_have_the_size_of_one_wave(dims, disentangled, num_scalars):
    common = {"num_dims": dims, "hidden_channels": 32, "disentangled": disentangled, "num_scalars": num_scalars}
    one = on_paper(waves=1, **common)
    assert one.widths == (32, 64, 128, 256, 512)
    for waves in (2, 8):
        model = on_paper(waves=waves, **common)
        assert size(model) == pytest.approx(size(one), rel=0.02)
        assert model.widths[0] == 32
    deep = on_paper(waves=1, blocks=8, **common)
    assert size(deep) == pytest.approx(size(one), rel=0.02)


@pytest.mark.parametrize(("wanted", "waves"), [(50_000, 4), (400_000, 2), (3_000_000, 1)])
def test_the_size_asked_for_is_met(wanted, waves):
    assert size(on_paper(hidden_channels=16, waves=waves, num_parameters=wanted)) == pytest.approx(wanted, rel=0.03)


@pytest.mark.parametrize("arguments", [(1, True, 2, 0), (3, False, 1, 2), (2, True, 3, 1)])
def test_sizes_are_counted_as_they_are_built(arguments):
    blocks, disentangled, dims, scalars = arguments
    common = {"num_dims": dims, "hidden_channels": 5, "multiplier": 1.6, "levels": 3, "blocks": blocks}
    one, two = (on_paper(waves=w, disentangled=disentangled, num_scalars=scalars, **common) for w in (1, 2))
    assert size(two) - size(one) == size_of_wave(widths_of_wave(5, 1.6, 3), *arguments)


def test_one_wave_of_many_blocks_is_as_deep_as_many_waves_of_one():
    deep, waves = on_paper(waves=1, blocks=4), on_paper(waves=4, blocks=1)
    assert [sum(isinstance(m, WaveBlock) for m in model.modules()) for model in (deep, waves)] == [32, 32]


class Reference:
    """The published forward pass on published layers: circular convolutions and bicubic interpolation, as torch has them."""

    def __init__(self, model: SineNet, mode: str) -> None:
        self.model, self.mode = model, mode

    def conv(self, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode=self.mode), layer.weight, layer.bias)

    def up(self, x: torch.Tensor) -> torch.Tensor:
        if self.mode == "constant":
            return F.interpolate(x, scale_factor=2, mode="bicubic")
        return F.interpolate(F.pad(x, (2,) * 4, mode="circular"), scale_factor=2, mode="bicubic")[..., 4:-4, 4:-4]

    def stage(self, stage: nn.Module, h: torch.Tensor, around: torch.Tensor) -> torch.Tensor:
        for number, block in enumerate(stage.blocks):
            before = around if number == 0 else h
            for layer, norm in ((block.first, block.first_norm), (block.second, block.second_norm)):
                h = F.gelu(F.group_norm(self.conv(layer, h), 1, norm.weight, norm.bias))
            way = F.conv2d(before, stage.around.weight, stage.around.bias) if number == 0 else before
            h = h + way
        return h

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(self.model.enter, x)
        for wave in self.model.chain:
            fields, average = [x], x
            for number, stage in enumerate(wave.down):
                average, h = F.avg_pool2d(average, 2), F.avg_pool2d(fields[-1], 2)
                joined = torch.cat([h, average], 1) if number and self.model.disentangled else h
                fields.append(self.stage(stage, joined, h))
            y = fields.pop()
            for stage in list(wave.up)[::-1]:
                h = self.up(y)
                y = self.stage(stage, torch.cat([fields.pop(), h], 1), h)
            x = x + y
        return self.conv(self.model.leave, x)


@pytest.mark.parametrize(("padding", "mode"), [("periodic", "circular"), ("zero", "constant")])
@pytest.mark.parametrize("disentangled", [True, False])
def test_it_is_the_published_forward_pass(padding, mode, disentangled):
    model = moved(
        SineNet(
            2,
            3,
            hidden_channels=4,
            waves=2,
            levels=3,
            blocks=2,
            multiplier=1.5,
            disentangled=disentangled,
            padding=padding,
        )
    )
    x = torch.randn(2, 2, 16, 24, dtype=torch.float64)
    torch.testing.assert_close(model(x), Reference(model, mode)(x), rtol=0, atol=1e-11)


def test_averages_of_the_input_run_along_the_way_down_untouched():
    model = moved(SineNet(num_dims=1, hidden_channels=4, waves=1, levels=3))
    heard = []
    for stage in model.chain[0].down:
        stage.register_forward_hook(lambda _m, inputs, _o: heard.append(inputs[0]))
    began = []
    model.chain[0].register_forward_hook(lambda _m, inputs, _o: began.append(inputs[0]))
    model(torch.randn(2, 1, 32, dtype=torch.float64))
    assert heard[0].shape[1] == 4
    for level in (1, 2):
        means = began[0].unflatten(2, (-1, 2 ** (level + 1))).mean(3)
        torch.testing.assert_close(heard[level][:, -4:], means)


def test_a_wave_is_added_to_what_comes_in():
    model = moved(SineNet(num_dims=1, hidden_channels=4, waves=3, levels=2))
    for wave in model.chain:
        last = wave.up[0]
        for layer in (last.around, last.blocks[-1].second_norm):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    x = torch.randn(2, 1, 16, dtype=torch.float64)
    expected = model.leave(F.pad(model.enter(F.pad(x, (1, 1), mode="circular")), (1, 1), mode="circular"))
    torch.testing.assert_close(model(x), expected)


def test_the_last_wave_hears_of_every_one_before():
    model = moved(SineNet(num_dims=1, hidden_channels=4, waves=4, levels=2))
    model(torch.randn(2, 1, 16, dtype=torch.float64)).square().sum().backward()
    sizes = [max(p.grad.abs().max().item() for p in wave.parameters()) for wave in model.chain]
    assert min(sizes) > 1e-3 * max(sizes)


@pytest.mark.parametrize(("padding", "commutes"), [("periodic", True), ("zero", False), ("reflect", False)])
def test_only_without_ends_it_commutes_with_shifts(padding, commutes):
    model, x = moved(SineNet(hidden_channels=4, waves=2, levels=2, padding=padding)), torch.randn(1, 1, 16, 16).double()
    error = (model(x.roll(4, 2)).roll(-4, 2) - model(x)).abs().max()
    assert (error < 1e-11) == commutes


def test_widths_are_whole_and_cut_off():
    assert widths_of_wave(64, 1.425, 4) == (64, 91, 129, 185, 263)
    assert widths_of_wave(2, 0.1, 2) == (2, 1, 1)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(InputError, match="not both"):
        SineNet(multiplier=1.5, num_parameters=100_000)
    with pytest.raises(InputError, match=r"has at least \d+ parameters; got num_parameters=1000"):
        SineNet(num_parameters=1000)
    with pytest.raises(InputError, match=r"waves.*at least 1"):
        SineNet(waves=0)
    with pytest.raises(InputError, match="num_dims=4"):
        SineNet(num_dims=4)


@pytest.mark.parametrize(("padding", "points"), [("periodic", 12), ("periodic", 8), ("reflect", 8), ("zero", 4)])
def test_grids_that_cannot_be_halved_often_enough_are_refused(padding, points):
    model = SineNet(hidden_channels=4, waves=1, levels=3, padding=padding)
    with pytest.raises(
        ShapeError, match=rf"levels=3 and {padding} padding expects multiples of 8.*\(1, 1, 24, {points}\)"
    ):
        model(torch.randn(1, 1, 24, points))


def test_the_smallest_allowed_grids_work():
    for padding, points in (("periodic", 16), ("reflect", 16), ("zero", 8)):
        model = SineNet(hidden_channels=4, waves=1, levels=3, padding=padding)
        assert model(torch.randn(1, 1, points, points)).isfinite().all()
