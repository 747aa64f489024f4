"""The store: whatever dies, what counts as written is written, and a continued run equals an uninterrupted one."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slipstream.channels import Channel
from slipstream.data import layout, writer
from slipstream.data.layout import chunk_of
from slipstream.data.store import Store
from slipstream.errors import InputError, ShapeError, StoreError
from slipstream.grids import Axis, Grid
from slipstream.lock import Lock
from slipstream.trajectories import Trajectories

RUNS, STEPS, BLOCK = 5, 11, 2
GRID = Grid((Axis("x", 6, 0.0, 3.0, unit="m"), Axis("y", 4, -1.0, 2.0)))
CHANNELS = (Channel("u", "m/s"), Channel("p", "Pa", "cell"))
FRAME_BYTES = 2 * GRID.size * 4
FRAMES = torch.randn(RUNS, STEPS, 2, *GRID.shape, generator=torch.Generator().manual_seed(0))
ARGUMENTS = {
    "grid": GRID,
    "channels": CHANNELS,
    "interval": 0.5,
    "runs": RUNS,
    "steps": STEPS,
    "parameters": {"viscosity": torch.linspace(0.1, 0.5, RUNS), "forcing": torch.randn(RUNS, *GRID.shape)},
    "about": {"seed": 3, "problem": "test"},
    "start_time": 10.0,
    "block": BLOCK,
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of 2 runs and 4 frames, so that little data have many."""
    monkeypatch.setattr(layout, "CHUNK_BYTES", 8 * FRAME_BYTES)
    monkeypatch.setattr(layout, "CHUNK_FRAMES", 4)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "flow.zarr"


def fill(store, frames=FRAMES, stop=STEPS):
    for block in store.missing():
        store.write(block, 0, frames[block, :stop])


@pytest.fixture
def full(path):
    with Store.create(path, **ARGUMENTS) as store:
        fill(store)
    return path


@contextmanager
def files_no_larger_than(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ---- what comes back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pieces", [1, 3, STEPS])
def test_what_is_written_in_any_pieces_is_read_bit_for_bit(path, dtype, pieces):
    frames = FRAMES.double() / 3
    with Store.create(path, **ARGUMENTS, dtype=dtype) as store:
        assert store.chunk == ((2, 4) if dtype == torch.float32 else (1, 4))
        for block in store.missing():
            for start in range(0, STEPS, pieces):
                store.write(block, start, frames[block, start : start + pieces])
        assert store.done
    loaded = Store.open(path).trajectories()
    assert torch.equal(loaded.frames, frames.to(dtype))
    assert loaded.grid == GRID
    assert loaded.channels == CHANNELS
    assert loaded.about == ARGUMENTS["about"]
    assert all(torch.equal(loaded.parameters[k], v) for k, v in ARGUMENTS["parameters"].items())


@given(
    st.slices(RUNS).filter(lambda s: (s.step or 1) > 0),
    st.slices(STEPS).filter(lambda s: (s.step or 1) > 0),
)
def test_loading_a_part_is_taking_a_part_of_the_whole(store_and_whole, runs, times):
    store, whole = store_and_whole
    part, expected = store.trajectories(runs, times), whole[runs, times]
    assert torch.equal(part.frames, expected.frames)
    assert torch.equal(part.times, expected.times)
    assert all(torch.equal(part.parameters[k], v) for k, v in expected.parameters.items())


@pytest.fixture(scope="module")
def store_and_whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("module") / "flow.zarr"
    rest = {k: ARGUMENTS[k] for k in ("grid", "interval", "channels", "parameters", "start_time")}
    with Store.create(path, **ARGUMENTS) as store:
        fill(store)
    return Store.open(path), Trajectories(FRAMES, **rest)


def test_the_caller_may_reuse_his_tensor_at_once(path):
    with Store.create(path, **ARGUMENTS) as store:
        for block in store.missing():
            u = torch.empty_like(FRAMES[block, :1])
            for i in range(STEPS):
                store.write(block, i, u.copy_(FRAMES[block, i : i + 1]))
                u.fill_(-1.0)
    assert torch.equal(Store.open(path).trajectories().frames, FRAMES)


def test_xarray_reads_names_coordinates_units_and_parameters_without_a_warning(full):
    import xarray

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xarray.open_zarr(full).load()
    assert data.frames.dims == ("run", "time", "channel", "x", "y")
    assert data.frames.attrs["units"] == ["m/s", "Pa"]
    assert data.x.attrs["units"] == "m"
    expected = Store.open(full).trajectories().to_xarray()
    for name in ("time", "channel", "x", "y", "viscosity"):
        assert (data.frames.coords[name].values == expected.coords[name].values).all(), name
    assert (data.frames.values == expected.values).all()
    assert data.forcing.dims == ("run", "x", "y")
    assert data.attrs["format"] == layout.FORMAT
    assert json.loads(data.attrs["about"]) == ARGUMENTS["about"]
    assert float(data.frames.sel(channel="p", time=12.0, run=3)[2, 1]) == FRAMES[3, 4, 1, 2, 1]


@given(st.integers(1, 200), st.integers(1, 500), st.integers(64, 2**25))
def test_chunks_divide_blocks_and_stay_small(block, steps, frame_bytes):
    runs, frames = chunk_of(block, steps, frame_bytes)
    assert block % runs == 0
    assert 1 <= frames <= steps
    assert runs * frames * frame_bytes <= max(layout.CHUNK_BYTES, frame_bytes)


# ---- what counts -----------------------------------------------------------------------------------------------------


def test_frames_count_when_their_chunk_is_whole(path):
    with Store.create(path, **ARGUMENTS) as store:
        store.write(slice(2, 4), 0, FRAMES[2:4, :6])
        assert store.complete.tolist() == [0, 0, 4, 4, 0]
        assert store.missing() == [slice(0, 2), slice(2, 4), slice(4, 5)]
        store.write(slice(2, 4), 6, FRAMES[2:4, 6:])
        assert store.missing() == [slice(0, 2), slice(4, 5)]


def test_the_record_is_replaced_after_the_frames_are_on_disk(path, monkeypatch):
    seen = []

    def spy(file, content, real=writer.write_whole):
        frames = Store.open(path)._array("frames")[:]
        real(file, content)
        seen.append((torch.from_numpy(frames), Store.open(path).complete.tolist()))

    monkeypatch.setattr(writer, "write_whole", spy)
    with Store.create(path, **ARGUMENTS) as store:
        fill(store)
    assert len(seen) == 9
    for frames, complete in seen:
        for run, steps in enumerate(complete):
            assert torch.equal(frames[run, :steps], FRAMES[run, :steps])


def test_equal_frames_make_equal_files_in_whatever_order_they_come(path, full, tmp_path):
    with Store.create(tmp_path / "other.zarr", **ARGUMENTS) as store:
        for block in reversed(store.missing()):
            for i in range(STEPS):
                store.write(block, i, FRAMES[block, i : i + 1])
    files = sorted((full / "frames").iterdir())
    assert len(files) == 10
    for file in files:
        assert file.read_bytes() == (tmp_path / "other.zarr" / "frames" / file.name).read_bytes(), file.name


def test_an_unfinished_store_says_what_is_complete_and_gives_only_that(path):
    with Store.create(path, **ARGUMENTS) as store:
        store.write(slice(0, 2), 0, FRAMES[:2])
        store.write(slice(2, 4), 0, FRAMES[2:4, :9])
    store = Store.open(path)
    assert "2 of 5 runs complete" in repr(store)
    assert not store.done
    with pytest.raises(StoreError, match=r"2 of 5 runs complete.*run 2 has 8 frames, frame 10"):
        store.trajectories()
    with pytest.raises(StoreError, match="run 3 has 8 frames, frame 8"):
        store.trajectories(slice(3, 4), slice(0, 9))
    assert torch.equal(store.trajectories(slice(0, 2)).frames, FRAMES[:2])
    assert torch.equal(store.trajectories(slice(0, 4), slice(0, 8)).frames, FRAMES[:4, :8])
    with pytest.raises(StoreError, match="reading only"):
        store.write(slice(0, 2), 0, FRAMES[:2])


def test_a_block_continues_at_complete_or_is_done_over(path):
    with Store.create(path, **ARGUMENTS) as store:
        store.write(slice(0, 2), 0, FRAMES[:2, :6])
        store.write(slice(2, 4), 0, -FRAMES[2:4, :9])
    with Store.create(path, **ARGUMENTS) as store:
        store.write(slice(0, 2), 4, FRAMES[:2, 4:])
        assert store.complete.tolist() == [11, 11, 8, 8, 0]
        store.write(slice(2, 4), 0, FRAMES[2:4, :3])
        assert Store.open(path).complete.tolist() == [11, 11, 0, 0, 0]  # the old frames no longer count
        store.write(slice(2, 4), 3, FRAMES[2:4, 3:])
        fill(store)
        assert store.done
    assert torch.equal(Store.open(path).trajectories().frames, FRAMES)


@pytest.mark.parametrize(
    ("runs", "start", "shape", "error", "says"),
    [
        (slice(0, 2), 1, (2, 1, 2, 6, 4), InputError, "have 0 of 11 frames.*got frames 1:2"),
        (slice(0, 2), 0, (2, 12, 2, 6, 4), InputError, "got frames 0:12"),
        (slice(1, 3), 0, (2, 1, 2, 6, 4), InputError, "1:3 are no block.*takes 2 at once"),
        (slice(4, 5), 0, (2, 1, 2, 6, 4), ShapeError, r"\(1, 1, 2, 6, 4\); got \(2, 1, 2, 6, 4\)"),
        (slice(0, 2), 0, (2, 1, 2, 4, 6), ShapeError, r"got \(2, 1, 2, 4, 6\)"),
    ],
)
def test_frames_that_do_not_fit_are_refused(path, runs, start, shape, error, says):
    with Store.create(path, **ARGUMENTS) as store:
        with pytest.raises(error, match=says):
            store.write(runs, start, torch.zeros(shape))
        assert store.complete.tolist() == [0] * RUNS


def test_a_complete_block_is_not_written_again(full):
    with Store.open(full, "a") as store, pytest.raises(InputError, match="they are complete"):
        store.write(slice(0, 2), 0, FRAMES[:2])


# ---- what may go wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told_by", ["write", "flush", "close", "missing"])
def test_a_full_disk_is_one_error_and_writing_goes_on_once_there_is_space(path, told_by):
    store = Store.create(path, **ARGUMENTS)
    store.write(slice(0, 2), 0, FRAMES[:2])
    store.write(slice(2, 4), 0, FRAMES[2:4, :4])
    store.flush()
    calls = {"write": lambda: store.write(slice(2, 4), 8, FRAMES[2:4, 8:9])}
    with files_no_larger_than(FRAME_BYTES):
        store.write(slice(2, 4), 4, FRAMES[2:4, 4:8])
        store._writer._pending[0].exception()  # until the thread has met the wall
        with pytest.raises(StoreError, match=r"frames 4:8 of runs 2:4.*File too large.*30 of 55 frames.*Store.open"):
            calls.get(told_by, getattr(store, told_by))()
    assert not list(path.rglob("*.partial"))
    assert torch.equal(Store.open(path).trajectories(slice(0, 2)).frames, FRAMES[:2])
    assert torch.equal(Store.open(path).trajectories(slice(0, 4), slice(0, 4)).frames, FRAMES[:4, :4])
    if told_by == "close":
        store = Store.open(path, "a")
    assert store.missing() == [slice(2, 4), slice(4, 5)]
    store.write(slice(2, 4), 4, FRAMES[2:4, 4:])
    fill(store)
    store.close()
    assert torch.equal(Store.open(path).trajectories().frames, FRAMES)


def test_no_later_chunk_counts_after_one_that_failed(path, monkeypatch):
    queued, failing = threading.Event(), iter([OSError(28, "No space left on device")])

    def sync(folder, real=layout.sync):
        queued.wait()
        for error in failing:
            raise error
        real(folder)

    monkeypatch.setattr(writer, "sync", sync)
    with Store.create(path, **ARGUMENTS) as store:
        store.write(slice(0, 2), 0, FRAMES[:2, :8])
        queued.set()
        with pytest.raises(StoreError, match="No space left on device"):
            store.flush()
        assert store.complete.tolist() == [0] * RUNS


def test_a_second_process_is_refused_by_name_and_a_dead_one_locks_nothing(full):
    hears, tells = os.pipe()
    child = os.fork()
    if child == 0:  # holds the lock until it is killed
        try:
            lock = Lock(full / "complete" / "writer", "The store", "wait")
            os.write(tells, b"!")
            signal.pause()
            lock.release()
        finally:
            os._exit(1)
    assert os.read(hears, 1) == b"!"
    try:
        with pytest.raises(StoreError, match=rf"in use by process {child} on {os.uname().nodename}.*mode='r'"):
            Store.open(full, "a")
        assert torch.equal(Store.open(full).trajectories().frames, FRAMES)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    Store.open(full, "a").close()


def test_a_store_that_cannot_be_continued_is_let_go_of(full):
    """The error is at hand, and with it everything that was on the way to it."""
    (full / "viscosity" / "c.0").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(StoreError, match=r"viscosity.* is damaged") as error:
            Store.create(full, **ARGUMENTS)
        assert error.traceback
        Store.open(full, "a").close()


def test_one_process_does_not_write_twice_either(path):
    with Store.create(path, **ARGUMENTS), pytest.raises(StoreError, match=f"process {os.getpid()}"):
        Store.create(path, **ARGUMENTS)
    Store.create(path, **ARGUMENTS).close()


@pytest.mark.parametrize("harm", ["cut", "empty", "flipped", "removed"])
def test_a_damaged_chunk_is_named_and_the_others_are_read(full, harm):
    chunk = full / "frames" / "c.1.2.0.0.0"
    content = chunk.read_bytes()
    if harm == "removed":
        chunk.unlink()
    else:
        flipped = content[:100] + bytes([content[100] ^ 1]) + content[101:]
        chunk.write_bytes({"cut": content[:-1], "empty": b"", "flipped": flipped}[harm])
    store = Store.open(full)
    with pytest.raises(StoreError, match=r"chunk .*c\.1\.2\.0\.0\.0"):
        store.trajectories()
    assert torch.equal(store.trajectories(slice(0, 2)).frames, FRAMES[:2])
    assert torch.equal(store.trajectories(slice(0, 5), slice(0, 8)).frames, FRAMES[:, :8])


def test_a_damaged_parameter_or_record_is_named(full):
    (full / "viscosity" / "c.0").write_bytes(b"123")
    with pytest.raises(StoreError, match=r"viscosity/c\.0 is damaged: 3 bytes"):
        _ = Store.open(full).parameters
    (full / "complete" / "c.0").write_bytes(b"123")
    with pytest.raises(StoreError, match=r"complete/c\.0 has 3 bytes, expected 40"):
        Store.open(full, "a")


def test_a_newer_format_is_refused(full):
    file = full / "zarr.json"
    group = json.loads(file.read_text())
    group["attributes"]["format"] = layout.FORMAT + 1
    file.write_text(json.dumps(group))
    for mode in ("r", "a"):
        with pytest.raises(StoreError, match=f"format {layout.FORMAT + 1}.*Upgrade slipstream"):
            Store.open(full, mode)


def test_what_is_no_store_is_refused_and_left_alone(tmp_path):
    import zarr

    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("precious")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "zarr.json").write_text('{"attributes": {"for')
    zarr.open_group(tmp_path / "foreign", mode="w")
    for name, says in [("nothing", "is no store"), ("folder", "is no store"), ("file", "is no store")]:
        with pytest.raises(StoreError, match=says):
            Store.open(tmp_path / name)
    for name, says in [
        ("folder", "no store"),
        ("file", "no store"),
        ("half", "not be read"),
        ("foreign", "Zarr group, but no"),
    ]:
        with pytest.raises(StoreError, match=says):
            Store.create(tmp_path / name, **ARGUMENTS)
    assert (tmp_path / "folder" / "thesis.tex").read_text() == (tmp_path / "file").read_text() == "precious"
    with pytest.raises(StoreError, match="Could not make a store"):
        Store.create(tmp_path / "file" / "flow.zarr", **ARGUMENTS)


@contextmanager
def nobody():
    """Without root's privilege to write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_no_permission_is_said(full, tmp_path):
    for folder in (tmp_path, *tmp_path.parents[:3]):  # pytest's own folders are closed to others
        if folder.stat().st_uid == os.getuid() and folder != folder.parent:
            folder.chmod(0o755)
    for folder in (full, full / "complete"):
        folder.chmod(0o555)
    (full / "complete" / "writer").chmod(0o444)
    try:
        with nobody():
            with pytest.raises(StoreError, match=r"flow\.zarr is not writable: Permission denied"):
                Store.open(full, "a")
            with pytest.raises(StoreError, match=r"Could not make a store at .*: Permission denied"):
                Store.create(full / "inner.zarr", **ARGUMENTS)
            assert torch.equal(Store.open(full).trajectories().frames, FRAMES)
    finally:
        for folder in (full, full / "complete"):
            folder.chmod(0o755)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"interval": 0.25}, "interval: 0.5 in the store, 0.25 asked"),
        ({"grid": GRID.with_points((6, 8))}, "num_points: 4 in the store, 8 asked"),
        ({"channels": (CHANNELS[0], Channel("p", "bar", "cell"))}, "unit: 'Pa' in the store, 'bar' asked"),
        ({"about": {"seed": 4, "problem": "test"}}, "about.seed: 3 in the store, 4 asked"),
        ({"steps": 12}, "steps: 11 in the store, 12 asked"),
        ({"dtype": torch.float64}, "dtype: 'float32' in the store, 'float64' asked"),
        ({"block": 3}, "block: 2 in the store, 3 asked"),
        ({"parameters": {}}, "parameters.*in the store, .* asked"),
        (
            {"parameters": {**ARGUMENTS["parameters"], "viscosity": torch.tensor([0.1, 0.2, 0.35, 0.4, 0.5])}},
            r"viscosity: 0.3\d* in the store, 0.35\d* asked for run 2 \(1 of 5 runs differ\)",
        ),
    ],
)
def test_other_arguments_are_shown_and_refused(full, change, says):
    with pytest.raises(StoreError, match=f"(?s)other arguments.*{says}") as refusal:
        Store.create(full, **{**ARGUMENTS, **change})
    Store.create(full, **ARGUMENTS).close()  # and the refusal has let go of the lock
    assert refusal.value.__traceback__ is not None  # (which its own memory of the store would hold)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"about": {"seed": torch.ones(1)}}, InputError, "plain data"),
        ({"parameters": {"x": torch.zeros(RUNS)}}, InputError, r"\['x'\] stand for more than one"),
        ({"parameters": {"a/b": torch.zeros(RUNS)}}, InputError, r"\['a/b'\] cannot be arrays"),
        ({"parameters": {"a": torch.zeros(RUNS + 1)}}, ShapeError, "expected 5 entries"),
        ({"dtype": torch.complex64}, InputError, "complex64"),
        ({"runs": 0}, InputError, "runs=0"),
        ({"steps": 0}, InputError, "steps=0"),
    ],
)
def test_arguments_that_cannot_be_stored_leave_nothing_behind(tmp_path, change, error, says):
    with pytest.raises(error, match=says):
        Store.create(tmp_path / "flow.zarr", **{**ARGUMENTS, **change})
    assert not list(tmp_path.iterdir())


# ---- death -----------------------------------------------------------------------------------------------------------

DEATHS = """
import os, signal, sys, traceback
import torch, zarr
from pathlib import Path
from slipstream.data import layout
from slipstream.data.store import Store
from slipstream.grids import Grid

torch.set_num_threads(1)
RUNS, STEPS, GRID = 4, 7, Grid.box(8)
layout.CHUNK_BYTES, layout.CHUNK_FRAMES = 2 * 3 * GRID.size * 4, 3
SETTINGS = dict(grid=GRID, channels=["u"], interval=1.0, runs=RUNS, steps=STEPS, block=2, parameters={"a": torch.arange(4.0)})

def step(u):
    return torch.sin(3 * u) + u.roll(1, -1)

def simulate(store, from_complete):
    for runs in store.missing():
        first = int(store.complete[runs].min()) if from_complete else 0
        if first:
            u = step(store.trajectories(runs, slice(first - 1, first)).frames)
        else:
            u = torch.randn(2, 1, 1, 8, generator=torch.Generator().manual_seed(runs.start))
        for i in range(first, STEPS):
            store.write(runs, i, u)
            u = step(u)

def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    return os.waitpid(pid, 0)[1]

def live(path, deadline):
    "Simulate, and die at the given one of all operations on files."
    count = 0
    def die(event, *_):
        nonlocal count
        if event in ("open", "os.rename", "os.mkdir", "os.remove", "fsync"):
            count += 1
            if count == deadline:
                os.kill(os.getpid(), signal.SIGKILL)
    real = os.fsync
    os.fsync = lambda fd: (die("fsync"), real(fd))
    sys.addaudithook(die)
    class Torn:
        "A file that is written in two goes, with a chance to die after each."
        def __init__(self, *args, **kwargs): self.file, self.most = open(*args, **kwargs), 50
        def __enter__(self): return self
        def __exit__(self, *_): self.file.close()
        def fileno(self): return self.file.fileno()
        def write(self, part):
            n = self.file.write(part[: self.most])
            self.most = None
            die("fsync")
            return n
    layout.open = Torn
    with Store.create(path, **SETTINGS) as store:
        simulate(store, False)

def check_and_continue(path, reference, from_complete):
    if path.exists():
        store = Store.open(path)
        for run, frames in enumerate(store.complete.tolist()):
            part = store.trajectories(slice(run, run + 1), slice(0, frames)).frames
            assert torch.equal(part, reference[run : run + 1, :frames]), "frames that count are not whole"
        zarr.open_array(path / "frames")[:]  # nor is anything torn for other readers
    with Store.create(path, **SETTINGS) as store:
        simulate(store, from_complete)
        assert store.done
    assert torch.equal(Store.open(path).trajectories().frames, reference), "the continued run differs"
    left = [p.name for p in path.rglob("*") if p.suffix == ".partial" or p.name.startswith(".")]
    assert not left, left

folder, deadlines = Path(sys.argv[1]), list(map(int, sys.argv[2].split(",")))

def reference():
    with Store.create(folder / "whole", **SETTINGS) as store:
        simulate(store, False)
        torch.save(store.trajectories().frames, folder / "reference.pt")

assert child(reference) == 0
expected = torch.load(folder / "reference.pt")
deaths = 0
for deadline in deadlines:
    path = folder / str(deadline)
    status = child(lambda: live(path, deadline))
    if status == 0:
        break  # it ended before
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    deaths += 1
    assert child(lambda: check_and_continue(path, expected, deaths % 2 == 0)) == 0, f"killed at operation {deadline}"
print(deaths)
"""


def deaths(tmp_path, deadlines):
    done = subprocess.run(
        [sys.executable, "-c", DEATHS, str(tmp_path), ",".join(map(str, deadlines))],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_killed_anywhere_and_continued_equals_uninterrupted(tmp_path):
    assert deaths(tmp_path, [*range(3, 121, 39), *range(121, 1000, 6)]) >= 14


@pytest.mark.slow
def test_killed_at_every_operation_on_files_and_continued_equals_uninterrupted(tmp_path):
    assert deaths(tmp_path, range(1, 1000)) >= 150


def test_importing_the_library_imports_neither_zarr_nor_xarray():
    code = "import sys, slipstream, slipstream.data.windows; print({'zarr', 'xarray'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_a_store_may_be_moved(full, tmp_path):
    shutil.move(full, tmp_path / "elsewhere")
    assert torch.equal(Store.open(tmp_path / "elsewhere").trajectories().frames, FRAMES)
