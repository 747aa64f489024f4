"""Assessment, tables, pictures and report: nothing is lost, nothing loaded, nothing executed, nothing claimed that was not measured."""

import dataclasses
import io
import json
import math
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from slipstream.assessment import metrics as m
from slipstream.assessment.assessment import (
    Assessment,
    Contestant,
    Example,
    Reference,
    Rung,
    Spectra,
    Speed,
    Subject,
    Timing,
    mark_pareto,
)
from slipstream.assessment.images import diverging, images, sequential, sheet, thin
from slipstream.assessment.report import charts, key_figures, render, save_picture
from slipstream.assessment.spectra import energy_spectrum
from slipstream.assessment.table import duration, error_rows, figure, ratio
from slipstream.channels import Channel
from slipstream.errors import InputError, StoreError
from slipstream.grids import Grid, resample

VISCOSITY, INTERVAL, FRAMES, RUNS = 5e-3, 0.1, 24, 3


def vortices(w, grid, steps, dt=0.0125, drag=0.0):
    """Decaying 2D vorticity by an integrating-factor midpoint rule: (batch, time, 1, *space), one frame every `INTERVAL`."""
    kx, ky = grid.wavenumbers(torch.float64)
    k2 = kx**2 + ky**2
    keep = ((kx.abs() < grid.shape[0] / 3) & (ky < grid.shape[1] / 3)).double()
    inverse, half = torch.where(k2 > 0, 1 / k2.clamp(min=1e-9), 0.0), torch.exp(-(VISCOSITY * k2 + drag) * dt / 2)

    def advect(h):
        psi = h * inverse
        u, v, wx, wy = (
            torch.fft.irfftn(c, s=grid.shape, dim=(-2, -1))
            for c in (1j * ky * psi, -1j * kx * psi, 1j * kx * h, 1j * ky * h)
        )
        return -keep * torch.fft.rfftn(u * wx + v * wy, dim=(-2, -1))

    h, frames = torch.fft.rfftn(w, dim=(-2, -1)), []
    for i in range(round(steps * INTERVAL / dt)):
        middle = half * (h + dt / 2 * advect(h))
        h = half * (half * h + dt * advect(middle))
        if (i + 1) % round(INTERVAL / dt) == 0:
            frames.append(torch.fft.irfftn(h, s=grid.shape, dim=(-2, -1)))
    return torch.stack(frames, dim=1)


@cache
def realistic() -> Assessment:
    """A whole assessment of a made-up model (the solver on a coarser grid, slightly damped) of vortices that merge."""
    grid, coarse = Grid.box(64, num_dims=2), Grid.box(32, num_dims=2)
    kx, ky = grid.wavenumbers(torch.float64)
    envelope = (kx**2 + ky**2) * torch.exp(-(kx**2 + ky**2) / 22)
    noise = torch.fft.rfftn(
        torch.randn(RUNS, 1, 64, 64, generator=torch.Generator().manual_seed(4), dtype=torch.float64), dim=(-2, -1)
    )
    start = torch.fft.irfftn(noise * envelope, s=(64, 64), dim=(-2, -1))
    start = 4 * start / start.std()
    whole = vortices(start, grid, FRAMES + 1)
    before, start, truth = start, whole[:, 0], whole[:, 1:]
    coarsely = resample(vortices(resample(start, grid, coarse, "truncate"), coarse, FRAMES, dt=0.025), coarse, grid)
    model = resample(
        vortices(
            resample(start, grid, Grid.box(48, num_dims=2), "truncate"), Grid.box(48, num_dims=2), FRAMES, drag=0.02
        ),
        Grid.box(48, num_dims=2),
        grid,
    )
    model = model * 1.004 + 0.02 * torch.randn(
        model.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    slope = (start - before)[:, None] / INTERVAL
    times = torch.arange(1, FRAMES + 1, dtype=torch.float64) * INTERVAL
    arms = {
        "model": model,
        "supervised": 0.94 * model + 0.06 * truth.roll(1, dims=-1),
        "persistence": start[:, None].expand_as(truth),
        "mean": torch.zeros_like(truth),
        "linear_extrapolation": start[:, None] + slope * times.reshape(1, -1, 1, 1, 1),
        "coarse_classical": coarsely,
    }

    def over_time(values):
        return tuple(float(v) for v in values.mean(0))

    figures = {arm: {n: over_time(f(p, truth, grid)) for n, f in m.applicable(grid).items()} for arm, p in arms.items()}
    errors = m.relative_l2(model, truth, grid)
    correlations = {
        a: m.correlation(arms[a], truth, grid) for a in ("model", "supervised", "persistence", "coarse_classical")
    }
    crossing = {
        a: {str(c): m.correlation_time(v, times, c).mean().item() for c in (0.95, 0.9, 0.8)}
        for a, v in correlations.items()
    }
    drift = {
        a: over_time(m.invariant_drift(arms[a].square().mean((-3, -2, -1)), truth.square().mean((-3, -2, -1))))
        for a in ("model", "supervised", "coarse_classical")
    }
    k, _ = energy_spectrum(truth, grid)
    spectra = {
        a: energy_spectrum(u[:, -1].sum(1), grid)[1].mean(0)
        for a, u in {"truth": truth, "model": model, "coarse_classical": coarsely}.items()
    }
    ladder = mark_pareto(
        Rung(
            f"{s} {n}×{n}, dt {dt}", 0.9 * (24 / n) ** p + c * dt**2, n * n * w / dt * 2.2e-9 + 2e-4 / dt, (n, n), s, dt
        )
        for n in (24, 32, 48, 64)
        for s, w, c, p in (("ETDRK2", 60, 4.0, 5), ("ETDRK4", 125, 0.15, 5), ("IMEX-RK3", 105, 1.5, 5))
        for dt in (0.1, 0.05, 0.025)
    )
    end = errors[:, -1].mean().item()
    own = Rung("Staggered(UNet)", end, 0.021, (64, 64), "network", 0.1)
    matched = min((r for r in ladder if r.error <= end), key=lambda r: r.seconds)
    return Assessment(
        verdict=(
            f"At an error of {figure(end)} after {FRAMES} frames the classical solver wins: on "
            f"{matched.num_points[0]}² points it is as accurate and {own.seconds / matched.seconds:.1f} times faster than this model."
        ),
        subject=Subject(
            "decaying vortices", grid, (Channel("vorticity", "1/s"),), INTERVAL,
            r"\partial_t \omega + u \cdot \nabla \omega = \nu \Delta \omega, \qquad u = \nabla^{\perp} \Delta^{-1} \omega",
            {"viscosity": VISCOSITY, "initial vorticity": "Gaussian ring at |k| = 4"}, "s",
        ),
        stepper=Contestant(
            "Staggered(UNet)", 184_322, {"space": 2, "time": 4, "hidden_channels": 24, "objective": "physics residual, no labels"}
        ),
        times=tuple(times.tolist()),
        runs=RUNS,
        metrics=figures,
        spread={"relative_l2": (tuple(errors.amin(0).tolist()), tuple(errors.amax(0).tolist()))},
        reference=Reference(
            tuple(2e-4 * math.exp(0.9 * t) for t in times.tolist()),
            "The reference was checked against itself with grid and step refined twofold.",
        ),
        one_call={a: f["relative_l2"][0] for a, f in figures.items()},
        correlation={a: over_time(c) for a, c in correlations.items()},
        correlation_times={a: {c: None if t == math.inf else t for c, t in of.items()} for a, of in crossing.items()},
        failure_times={"model": None, "persistence": 1.7},
        drift={"enstrophy": drift},
        spectra=(Spectra(times[-1].item(), tuple(k.tolist()), {a: tuple(e.tolist()) for a, e in spectra.items()}),),
        ladder=ladder,
        speed=Speed(
            job=f"{FRAMES} frames ({FRAMES * INTERVAL:g} s) of one run",
            model=own,
            matched=matched,
            timings=(
                Timing("model", 1, 1, 0.021), Timing("classical", 1, 1, matched.seconds),
                Timing("model", 2, 1, 0.015), Timing("classical", 2, 1, 0.9 * matched.seconds),
                Timing("model", 1, 16, 0.0088), Timing("classical", 1, 16, 0.81 * matched.seconds),
                Timing("model", 2, 16, 0.0051), Timing("classical", 2, 16, 0.42 * matched.seconds),
            ),
            ratio_at_matched_error=matched.seconds / own.seconds,
            error_at_matched_time=min(r.error for r in ladder if r.seconds <= own.seconds),
            training_seconds=480.0,
            rivals=(Rung("DMD", 0.42, 0.0012),),
            how="Seconds are minima of 7 interleaved repeats, warm, normalisation and transfers included; float32 on both sides.",
        ),
        failures=("1 of 3 runs of linear extrapolation left the range of the data at t = 1.9 s.",),
        baselines={
            "supervised": "the same network trained on labels for the same time",
            "persistence": "the first frame, for ever",
            "mean": "the mean over space and runs",
            "linear_extrapolation": "the first two frames, continued",
            "coarse_classical": "the classical solver on 32 × 32 points, interpolated",
        },
        machine={"processor": "2 cores, AVX-512", "memory": "8 GB", "threads": "1 and 2"},
        versions={"slipstream": "0.1.0", "torch": "2.13"},
        examples=(Example("One unseen run", tuple(times.tolist()), truth[0, :, 0].float(), model[0, :, 0].float(), "1/s"),),
        notes=("Initial states of the test runs were never seen in training (seeds 1000 and above).",),
    )  # fmt: skip


def bare(**changes) -> Assessment:
    """The least that verify gives without a problem: no ladder, no reference, no equation."""
    grid = Grid.box(16, num_dims=2)
    u = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
    given = {
        "verdict": "Nothing to compare with.",
        "subject": Subject("data", grid, (Channel("u"),), 1.0),
        "stepper": Contestant("theirs"),
        "times": (1.0, 2.0, 3.0),
        "runs": 1,
        "metrics": {"model": {"relative_l2": (0.1, 0.2, math.nan)}},
        "examples": (Example("one", (1.0, 2.0, 3.0), u, u + 0.01 * u.flip(-1)),),
    }
    return Assessment(**(given | changes))


def same(a, b):
    """Equality that looks into tensors and takes NaN as equal to itself."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.stack, self.first = [], [], [], {}
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.stack.append(tag)

    def handle_endtag(self, tag):
        if tag in self.stack:
            while self.stack.pop() != tag:
                pass

    def handle_data(self, data):
        if self.stack and data.strip() and self.stack[-1] not in ("style", "script"):
            self.text.append(data.strip())
            self.first.setdefault(self.stack[-1], data.strip())


@cache
def html():
    return render(realistic())


# Assessment


@pytest.mark.parametrize("make", [realistic, bare])
def test_json_keeps_everything_down_to_the_last_bit(make, tmp_path):
    a = make()
    assert same(Assessment.load(a.save(tmp_path / "a.json")), a)


def test_json_is_strict_and_says_what_is_not_finite(tmp_path):
    a = bare(metrics={"model": {"relative_l2": (math.inf, -math.inf, math.nan)}}, examples=())

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    read = json.loads(a.to_json(), parse_constant=refuse)
    assert read["metrics"]["model"]["relative_l2"] == ["Infinity", "-Infinity", "NaN"]
    assert same(Assessment.load(a.save(tmp_path / "a.json")), a)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"format": 99}', '{"format": 1}', '{"format": 1, "verdict": 3, "subject": 4}']
)
def test_files_that_are_no_assessment_are_refused(content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(StoreError, match=r"a\.json"):
        Assessment.load(tmp_path / "a.json")


def test_a_file_of_a_newer_version_is_refused_however_well_it_reads(tmp_path):
    path = bare().save(tmp_path / "a.json")
    path.write_text(path.read_text().replace('"format": 1', '"format": 2', 1))
    with pytest.raises(StoreError, match="format 2"):
        Assessment.load(path)


def test_figures_without_a_model_or_of_another_length_are_refused():
    with pytest.raises(InputError, match="model"):
        bare(metrics={"persistence": {"relative_l2": (1.0, 1.0, 1.0)}})
    with pytest.raises(InputError, match="2 values for 3 times"):
        bare(metrics={"model": {"relative_l2": (1.0, 1.0)}})


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(InputError, match="html"):
        bare().save(tmp_path / "a.pdf")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats_and_the_rest_is_beaten_by_the_front(points):
    rungs = mark_pareto(Rung(str(i), float(e), float(s)) for i, (e, s) in enumerate(points))

    def beats(o, r):
        return (o.error, o.seconds) != (r.error, r.seconds) and o.error <= r.error and o.seconds <= r.seconds

    front = [r for r in rungs if r.pareto]
    assert front
    for r in rungs:
        assert r.pareto != any(beats(o, r) for o in front)


def test_a_setting_that_blew_up_is_not_on_the_front():
    rungs = mark_pareto([Rung("fast", math.nan, 0.1), Rung("good", 0.1, 1.0), Rung("inf", math.inf, 0.01)])
    assert [r.pareto for r in rungs] == [False, True, False]


def test_ratios_are_of_one_setting_and_never_mix_latency_with_throughput():
    s = Speed(
        "",
        Rung("m", 0.1, 1.0),
        timings=(Timing("model", 1, 1, 2.0), Timing("classical", 1, 1, 6.0), Timing("model", 1, 8, 0.5)),
    )
    assert s.ratio(1, 1) == 3.0
    assert s.ratio(1, 8) is None


# Words and tables


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123456, "0.0123"), (0.9996, "1.00"), (1.0, "1.00"), (99.96, "100"), (1234.5, "1,230"), (2e-5, "2.0e-05"), (0, "0"),
     (-0.05, "-0.0500"), (math.nan, "not finite"), (math.inf, "∞"), (None, "–"), (3.2e7, "3.2e+07")],
)  # fmt: skip
def test_figures_have_three_digits(value, text):
    assert figure(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3e-6, "3 µs"), (0.0215, "21.5 ms"), (1.5, "1.5 s"), (480, "8 min"), (10800, "3 h"), (None, "–")],
)
def test_durations_are_in_the_unit_of_a_person(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4.0, "4.0 times faster"),
        (0.25, "4.0 times slower"),
        (1.01, "equally fast"),
        (800, "800 times faster"),
        (None, "not comparable"),
    ],
)
def test_a_ratio_below_one_is_called_slower(value, text):
    assert ratio(value) == text


def test_the_best_of_a_line_is_its_smallest_error():
    a = realistic()
    arms = list(a.metrics)
    for row, (name, i) in zip(error_rows(a), ((n, i) for n in a.metrics["model"] for i in (0, 11, 23)), strict=True):
        assert a.metrics[arms[row.best]][name][i] == min(a.metrics[arm][name][i] for arm in arms)


def test_the_terminal_shows_the_verdict_every_arm_and_the_speed():
    console = Console(record=True, width=160, file=io.StringIO())
    console.print(realistic())
    text = console.export_text()
    assert text.startswith("At an error of")
    for word in (
        "coarse classical",
        "linear extrapolation",
        "above 0.9 until",
        "> 2.4",
        "latency, 1 thread:",
        "throughput, batch of 16, 2 threads:",
        "never pays off",
    ):
        assert word in text


def test_text_from_data_is_no_markup_in_the_terminal():
    a = bare(
        verdict="[red]x[/red] [/oops]",
        metrics={"model": {"relative_l2": (1.0, 1.0, 1.0)}, "[bold]": {"relative_l2": (2.0, 2.0, 2.0)}},
    )
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(a)
    text = console.export_text()
    assert "[red]x[/red] [/oops]" in text
    assert "[bold]" in text


# Pictures


def test_truth_and_model_share_one_scale_and_zero_is_its_middle():
    truth = torch.zeros(2, 8, 8)
    truth[:, 0], truth[:, 1] = -2.0, 3.0
    shown = images(Example("", (0.0, 1.0), truth, 0.5 * truth))
    assert (shown.low, shown.high) == (-3.0, 3.0)
    assert sorted(set(shown.truth.flatten().tolist())) == [42, 128, 255]
    assert sorted(set(shown.prediction.flatten().tolist())) == [85, 128, 191]


def test_x_runs_to_the_right_and_y_upwards():
    truth = torch.zeros(1, 5, 4)
    truth[0, 4, 0] = 1.0  # largest x, smallest y
    shown = images(Example("", (0.0,), truth, truth))
    assert shown.truth.shape == (1, 4, 5)
    assert shown.truth[0, 3, 4] == 255
    assert shown.truth.astype(int).sum() == 255


def test_a_small_difference_is_magnified_by_a_power_of_ten_and_says_so():
    truth = torch.linspace(-1, 1, 64).reshape(1, 8, 8)
    for size, zoom in ((0.5, 1), (0.05, 10), (0.005, 100), (0.0, 1)):
        shown = images(Example("", (0.0,), truth, truth + size))
        assert shown.zoom == zoom
    assert "100 times magnified" in render(bare(examples=(Example("x", (1.0,), truth, truth + 0.005),)))


def test_a_prediction_that_is_not_finite_can_be_drawn():
    truth = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    broken = truth.clone()
    broken[1] = math.nan
    assert images(Example("", (0.0, 1.0), truth, broken)).prediction.shape == (2, 8, 8)


def test_a_sheet_holds_every_frame_in_its_colours():
    import base64

    import numpy as np
    from PIL import Image

    frames = np.arange(2 * 6 * 5, dtype=np.uint8).reshape(2, 6, 5)
    address = sheet(frames, diverging())
    picture = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,")))).convert("RGB")
    assert (np.asarray(picture).reshape(2, 6, 5, 3) == diverging()[frames]).all()


@pytest.mark.parametrize("shape", [(40, 256, 256), (200, 64, 64), (3, 16, 16), (30, 64, 64, 64)])
def test_thinned_examples_keep_to_the_budget_and_both_ends(shape):
    u = torch.arange(shape[0], dtype=torch.float32).reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
    small = thin(Example("", tuple(float(i) for i in range(shape[0])), u, u), 300_000)
    assert math.prod(small.truth.shape[:3]) <= 300_000
    assert small.truth.shape[0] == len(small.times) > 1
    assert (small.times[0], small.times[-1]) == (0.0, shape[0] - 1.0)
    assert small.truth[:, 0, 0].flatten().tolist()[0] == 0
    assert (small.truth.flatten(1)[:, 0] == torch.tensor(small.times)).all()


def test_equal_steps_of_colour_are_equal_steps_of_lightness():
    def lightness(rgb):
        linear = torch.tensor(rgb.astype(float) / 255) ** 2.2
        y = linear @ torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.float64)
        return 116 * y ** (1 / 3) - 16

    signed, one_sided = lightness(diverging()), lightness(sequential())
    assert (signed[:128].diff() > -0.3).all()
    assert (signed[128:].diff() < 0.3).all()
    assert signed[127] > 95
    assert abs(signed[0] - signed[255]) < 8
    assert (one_sided.diff() > -0.3).all()
    assert one_sided[-1] - one_sided[0] > 65


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_one_picture_for_a_readme(suffix, tmp_path):
    content = save_picture(realistic(), tmp_path / f"a{suffix}").read_bytes()
    assert content.startswith(b"\x89PNG") if suffix == ".png" else b"<svg" in content
    assert len(content) > 20_000


# Report


def test_the_first_sentence_is_the_verdict():
    page = Page(html())
    assert page.first["h1"] == realistic().verdict
    headings = [t for t, _ in page.tags if t in ("h1", "h2")]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1


def test_the_page_loads_nothing():
    page = Page(html())
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "data-src", "href", "xlink:href", "srcset", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,")), (tag, name)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest", html())
    assert len(html()) < 3_000_000


def test_large_fields_stay_below_three_megabytes():
    u = torch.randn(60, 256, 256, generator=torch.Generator().manual_seed(0))
    times = tuple(float(i) for i in range(60))
    a = bare(
        subject=Subject("d", Grid.box(256, num_dims=2), (Channel("u"),), 1.0),
        examples=(Example("a", times, u, -u), Example("b", times, -u, u)),
    )
    assert len(render(a)) < 3_000_000


def test_ids_are_unique_and_every_reference_finds_its_own():
    page = Page(html())
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids)) > 10
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', html()))
    assert used
    assert used <= set(ids)


def test_every_picture_has_words_for_those_who_cannot_see_it():
    page = Page(html())
    for tag, attributes in page.tags:
        if tag == "canvas" or attributes.get("role") == "img":
            assert attributes["aria-label"].strip()
        if tag == "img":
            assert attributes["alt"].strip()
        if tag == "svg":
            assert attributes["aria-hidden"] == "true"
        if tag in ("button", "input"):
            assert attributes["aria-label"]


def test_charts_wear_the_colours_of_the_page():
    svg = "".join(c.svg for c in charts(realistic()))
    assert "var(--accent)" in svg
    assert "var(--ink)" in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg)


def test_text_from_data_stays_text():
    bad = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)> $x_$ {{ 7 * 7 }} \\frac"
    a = realistic()
    hostile = dataclasses.replace(
        a, verdict=bad, failures=(bad,), notes=(bad,), machine={bad: bad}, versions={bad: bad}, baselines={bad: bad},
        subject=dataclasses.replace(a.subject, name=bad, equation=bad, parameters={bad: bad}, channels=(Channel(bad, bad),), time_unit=bad),
        stepper=Contestant(bad, 1, {bad: bad}), metrics={**a.metrics, bad: a.metrics["model"]},
        drift={bad: {**a.drift["enstrophy"], bad: a.times}},
        reference=dataclasses.replace(a.reference, how=bad), ladder=mark_pareto([*a.ladder, Rung(bad, 1e-9, 1e-4, (), bad)]),
        speed=dataclasses.replace(a.speed, job=bad, how=bad, rivals=(Rung(bad, 0.4, 0.002),)),
        spectra=tuple(dataclasses.replace(s, energy={**s.energy, bad: s.energy["model"]}) for s in a.spectra),
        examples=tuple(dataclasses.replace(e, title=bad, unit=bad) for e in a.examples),
    )  # fmt: skip
    out = render(hostile)
    page, clean = Page(out), Page(html())
    assert [t for t, _ in page.tags if t == "script"] == [t for t, _ in clean.tags if t == "script"]
    assert sum(t == "img" for t, _ in page.tags) == sum(t == "img" for t, _ in clean.tags)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.first["h1"] == bad
    assert "49" not in page.first["title"]


def test_dollars_and_backslashes_in_names_are_no_mathematics():
    a = bare(metrics={"model": {"relative_l2": (0.1, 0.2, 0.3)}, r"$\unheardof{x}$": {"relative_l2": (0.1, 0.2, 0.3)}})
    assert r"$\unheardof{x}$" in charts(a)[0].svg


def test_without_a_problem_the_page_claims_no_speed():
    out = render(bare())
    text = " ".join(Page(out).text)
    for word in ("equal error", "classical", "Pareto", "paid off", "grey band", "reference"):
        assert word not in text, word
    assert "not finite" in text


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_fields_of_every_dimension_can_be_shown(dims):
    grid = Grid.box(8, num_dims=dims)
    u = torch.randn(3, *grid.shape, generator=torch.Generator().manual_seed(0))
    page = Page(
        render(
            bare(subject=Subject("d", grid, (Channel("u"),), 1.0), examples=(Example("one", (1.0, 2.0, 3.0), u, u),))
        )
    )
    section = next(a for _, a in page.tags if "data-frames" in a)
    assert section["data-frames"] == ("1" if dims == 1 else "3")
    assert sum(t == "canvas" for t, _ in page.tags) == 3


def test_a_steady_problem_has_no_time():
    u = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    a = bare(
        times=(0.0,), metrics={"model": {"relative_l2": (0.1,)}, "mean": {"relative_l2": (1.0,)}}, examples=(Example("one", (0.0,), u, u),),
        subject=Subject("Darcy", Grid.box(16, num_dims=2, periodic=False), (Channel("pressure"),), 0.0),
    )  # fmt: skip
    text = " ".join(Page(render(a)).text)
    assert "t =" not in text
    assert "interval" not in text
    assert key_figures(a)[0].note.startswith("0.100 × mean")


def test_an_equation_that_cannot_be_set_is_shown_as_text():
    a = bare(subject=Subject("d", Grid.box(16, num_dims=2), (Channel("u"),), 1.0, equation=r"\unheardof{u} = 0"))
    page = Page(render(a))
    assert page.first["code"] == r"\unheardof{u} = 0"


def test_key_figures_claim_only_what_was_measured():
    a = realistic()

    def found(**changes):
        shown = key_figures(dataclasses.replace(a, speed=dataclasses.replace(a.speed, **changes)))
        return {k.name: k.value for k in shown}

    assert found(ratio_at_matched_error=0.25)["at equal error"] == "4.0× slower"
    assert found(ratio_at_matched_error=30.0)["at equal error"] == "30× faster"
    assert found(matched=None, ratio_at_matched_error=None)["speed at equal error"] == "no match"
    assert found(break_even_runs=12.3)["until training has paid off"] == "13 runs"
    assert found()["until training has paid off"] == "never"
    assert "until training has paid off" not in found(training_seconds=None)
    assert not [k for k in key_figures(dataclasses.replace(a, speed=None)) if "equal" in k.name]


def test_pictures_and_templates_load_their_libraries_only_when_drawn():
    code = (
        "import sys, slipstream.assessment.assessment, slipstream.assessment.report, slipstream.assessment.plots;"
        "print([m for m in ('matplotlib', 'jinja2', 'PIL', 'rich') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


if __name__ == "__main__":
    print(realistic().save(sys.argv[1]))
