"""Solver programs of the examples: the same heat in C and in Python, and a cavity by FreeFEM."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slipstream.client import END
from slipstream.data.live.engine import Delivered, Finished, Lost, Member
from slipstream.data.live.programs import Programs
from slipstream.data.live.protocol import Parser, question

EXAMPLES = Path(__file__).parents[3] / "examples" / "live"
POINTS, INTERVAL = 64, 0.01

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
needs_freefem = pytest.mark.skipif(shutil.which("FreeFem++") is None, reason="examples/live/freefem/install.sh")


def runs_of(command, members, **arguments):
    engine = Programs(command, **arguments)
    engine.submit(members)
    events = []
    while new := engine.poll(wait=True):
        events += new
    engine.close()
    frames = {}
    for event in events:
        assert not isinstance(event, Lost), event.reason
        if isinstance(event, Delivered):
            frames.setdefault(event.member, []).append(event.frame)
    assert {e.member for e in events if isinstance(e, Finished)} == {m.number for m in members}
    return {n: torch.stack(f) for n, f in frames.items()}


@pytest.fixture(scope="module")
def heat(tmp_path_factory):
    """Compiled by the line in its header comment."""
    source = EXAMPLES / "heat.c"
    folder = tmp_path_factory.mktemp("heat")
    (line,) = [x for x in source.read_text().splitlines() if x.startswith(" *   cc ")]
    words = [str(source) if w == "heat.c" else w for w in line.split()[1:]]
    subprocess.run([words[0], "-Wall", "-Wextra", "-Werror", *words[1:]], cwd=folder, check=True)
    return folder / "heat"


MEMBERS = [
    Member(i, 123456 + 17 * i, {"diffusivity": torch.tensor(d, dtype=torch.float64)}, 6)
    for i, d in enumerate((0.02, 0.3, 1.0))
]


def decay(member):
    """What explicit steps do to the one wave of a run, in closed form: each multiplies it by 1 - 4 r sin^2(pi dx)."""
    d, dx = float(member.parameters["diffusivity"]), 1 / POINTS
    inner = -(-d * INTERVAL // (0.25 * dx * dx))
    factor = 1 - 4 * d * INTERVAL / inner / dx**2 * torch.sin(torch.tensor(torch.pi * dx, dtype=torch.float64)) ** 2
    x = torch.arange(POINTS, dtype=torch.float64) * dx
    wave = torch.sin(2 * torch.pi * (x + member.seed % 100 / 100))
    return torch.stack([factor ** (k * inner) * wave[None] for k in range(member.steps)])


@needs_cc
def test_heat_in_c_decays_as_its_scheme_says(heat):
    found = runs_of([str(heat)], MEMBERS, clients=2)
    for member in MEMBERS:
        torch.testing.assert_close(found[member.number], decay(member), rtol=0, atol=1e-12)


def test_heat_in_python_is_the_same():
    found = runs_of([sys.executable, str(EXAMPLES / "heat.py")], MEMBERS, clients=2)
    for member in MEMBERS:
        torch.testing.assert_close(found[member.number], decay(member), rtol=0, atol=1e-12)


@needs_cc
def test_a_client_can_be_tried_alone(heat, tmp_path):
    """As the manual says: from a file, into a file."""
    asked, sent = tmp_path / "member.json", tmp_path / "frames.bin"
    asked.write_bytes(question(MEMBERS[1], 1))
    with asked.open() as file:
        environment = {"SLIPSTREAM_MEMBER": str(asked), "SLIPSTREAM_FRAMES": str(sent)}
        subprocess.run([str(heat)], stdin=file, env=environment, check=True)
    *frames, end = Parser().feed(sent.read_bytes())
    assert [f.header.step for f in frames] == list(range(6))
    assert (end.header.kind, end.header.member) == (END, 1)
    torch.testing.assert_close(torch.stack([f.frame for f in frames]), decay(MEMBERS[1]), rtol=0, atol=1e-12)


@needs_cc
def test_a_c_program_without_its_parameter_says_what_is_missing(heat):
    engine = Programs([str(heat)])
    engine.submit([Member(0, 1, {"viscosity": torch.tensor(1.0)}, 2)])
    (lost,) = engine.poll(wait=True)
    assert "exit status 2" in lost.reason
    assert 'the member has no "diffusivity"' in lost.reason
    engine.close()


# Botella and Peyret (1998), Re = 100: extremes of u and v on the lines through the centre. With 20 elements an axis, the jump of the
# velocity at the lid's corners leaves 1.1 % here; 28 elements leave half of that.
LEAST_U, MOST_V, LEAST_V = -0.2140424, 0.1795728, -0.2538030


@pytest.mark.slow
@needs_freefem
def test_the_cavity_that_freefem_streams_is_the_known_one():
    command = [sys.executable, str(EXAMPLES / "freefem" / "cavity.py"), "--points", "129", "--interval", "5"]
    member = Member(0, 0, {"reynolds": torch.tensor(100.0)}, 7)
    frames = runs_of([*command, "--inner", "10"], [member])[0]
    assert frames.shape == (7, 2, 129, 129)
    u, v = frames[-1, 0, 64], frames[-1, 1, :, 64]
    found = [float(u.min()), float(v.max()), float(v.min())]
    assert found == pytest.approx([LEAST_U, MOST_V, LEAST_V], abs=0.003)
    assert float(frames[1:, :, 0, :-1].abs().max()) < 1e-12
    steady = (frames[-1] - frames[-2]).norm() / frames[-1].norm()
    assert float(steady) < 1e-3


@pytest.mark.slow
@needs_freefem
def test_freefem_streams_an_ensemble_and_says_why_it_fails():
    script = str(EXAMPLES / "freefem" / "cavity.py")
    members = [Member(i, 0, {"reynolds": torch.tensor(10.0 * 4**i)}, 3) for i in range(3)]
    frames = runs_of([sys.executable, script, "--points", "17", "--cells", "10"], members, clients=2)
    assert all(f.shape == (3, 2, 17, 17) for f in frames.values())
    depth = [float(frames[i][-1, 0, 8].min().abs()) for i in range(3)]
    assert depth[0] > depth[1] > depth[2] > 0  # after so short a time, the more viscous the further the lid is felt
    engine = Programs([sys.executable, script, "--points", "17", "--cells", "0"])
    engine.submit([members[0]])
    (lost,) = [e for e in iter(lambda: engine.poll(wait=True), []) for e in e if isinstance(e, Lost)]
    assert "FreeFEM ended with status" in lost.reason
    engine.close()
