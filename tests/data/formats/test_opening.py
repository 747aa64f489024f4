"""`data.open`: every format gives the same fields; layouts are inferred where one reading fits, and refused where not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch

import slipstream as ss
from slipstream.errors import InputError, MissingExtra
from slipstream.grids import Axis

sys.path.insert(0, str(Path(__file__).parent))
import lookalikes as look

GRID = ss.Grid((Axis("x", 6), Axis("y", 8, extent=2.0, periodic=False, centred=False)))


@pytest.mark.parametrize("name", look.MAKERS)
def test_every_format_gives_the_same_wave(name, tmp_path):
    data = ss.data.open(look.MAKERS[name](tmp_path / name), dtype=torch.float64)
    (axis,) = data.grid.axes
    assert (axis.name.lower(), axis.num_points, axis.start, axis.extent, axis.periodic) == ("x", 16, -8.0, 16.0, True)
    assert (data.runs, data.steps, data.start_time) == (1, 11, 0.0)
    assert data.interval == pytest.approx(0.1)
    tolerance = 6e-5 if name == "f.nc" else 1e-12  # packed to 1e-4
    assert np.abs(data.frames[0, :, 0].numpy() - look.U.T).max() < tolerance
    assert torch.allclose(axis.coordinates(), torch.from_numpy(look.X))


def test_it_is_said_back_in_words(tmp_path):
    data = ss.data.open(look.nc4(tmp_path / "wave.nc"))
    assert (
        ss.data.describe(data)
        == "u (m s-1): 1 run, 11 times 0 to 1 seconds, 1 channel, x 16 points in [-8, 8) periodic m"
    )
    assert data.about["time_unit"] == "seconds"


def test_arrays_tensors_and_xarray_in_memory_read_alike():
    given = {"x": look.X, "t": look.T, "u": look.U}
    one = ss.data.open(given)
    two = ss.data.open({k: torch.from_numpy(v) for k, v in given.items()})
    three = ss.data.open(look.dataset())
    four = ss.data.open(look.dataset()["u"])
    for other in (two, three, four):
        assert torch.equal(one.frames, other.frames)
    assert one.grid == two.grid
    assert ss.data.open(one) is one


def test_our_own_store_opens_too(tmp_path):
    problem = ss.problems.KolmogorovFlow(num_points=16, interval=0.05, warm_up=0.0)
    made = problem.simulate(2, 3, out=tmp_path / "k.zarr")
    assert torch.equal(ss.data.open(tmp_path / "k.zarr").frames, made.frames)


# ---- layouts -------------------------------------------------------------------------------------------------------------------------


def test_a_square_array_is_ambiguous_and_the_error_tells_both_readings():
    u = np.random.default_rng(0).normal(size=(8, 8))
    given = {"x": np.arange(8.0), "t": np.arange(8.0), "u": u}
    with pytest.raises(InputError, match=r"axes='t x' or axes='x t'"):
        ss.data.open(given)
    assert torch.equal(
        ss.data.open(given, axes="t x").frames[0, :, 0], ss.data.open(given, axes="x t").frames[0, :, 0].T
    )


def test_what_no_coordinate_explains_is_runs_in_front_and_channels_behind():
    u = np.random.default_rng(0).normal(size=(3, 5, 8))
    runs = ss.data.open({"x": np.arange(8.0), "t": np.arange(5.0), "u": u})
    assert (runs.runs, runs.steps, len(runs.channels)) == (3, 5, 1)
    channels = ss.data.open({"x": np.arange(8.0), "t": np.arange(5.0), "u": np.moveaxis(u, 0, -1)})
    assert (channels.runs, channels.steps, [c.name for c in channels.channels]) == (1, 5, ["u_0", "u_1", "u_2"])
    assert torch.equal(runs.frames[:, :, 0], channels.frames[0].movedim(1, 0))
    with pytest.raises(InputError, match=r"what \? stands for is not told"):
        ss.data.open({"x": np.arange(8.0), "u": u})


def test_bare_arrays_need_words_and_say_what_was_assumed():
    u = np.random.default_rng(0).normal(size=(2, 5, 8, 3))
    with pytest.raises(InputError, match=r"axes='run t x y'"):
        ss.data.open(u)
    data = ss.data.open(u, axes="run t x channel", channels="a b c", extent={"x": (0, 4)}, periodic=True, interval=0.5)
    assert data.frames.shape == (2, 5, 3, 8)
    assert [c.name for c in data.channels] == ["a", "b", "c"]
    assert (data.interval, data.grid.axes[0].extent, data.grid.periodic) == (0.5, 4.0, True)
    assumed = ss.data.describe(ss.data.open(u, axes="run t x channel"))
    assert "no coordinates" in assumed
    assert "no times" in assumed


def test_arrays_of_matlab_7_3_have_matlabs_order_of_axes(tmp_path):
    data = ss.data.open(look.mat73(tmp_path / "a.mat"), axes="x t", dtype=torch.float64)
    assert torch.equal(data.frames[0, :, 0], torch.from_numpy(look.U.T))


def test_coordinates_repeated_over_a_mesh_are_read_once():
    xx, tt = np.meshgrid(look.X, look.T, indexing="ij")
    assert torch.equal(
        ss.data.open({"X": xx, "T": tt, "u": look.U}).frames,
        ss.data.open({"X": look.X, "T": look.T, "u": look.U}).frames,
    )


def test_pairs_of_fields_and_runs_that_begin_with_x():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 2, (7, 6, 8)).astype(bool), rng.normal(size=(7, 6, 8)).astype(np.float32)
    pairs = ss.data.open({"x": x, "y": y})
    assert (pairs.runs, pairs.interval, pairs.grid.shape) == (7, 0.0, (6, 8))
    assert torch.equal(pairs.frames[:, 0, 0], torch.from_numpy(y))
    assert torch.equal(pairs.parameters["input"], torch.from_numpy(x).float())
    runs = rng.normal(size=(7, 5, 8))
    marched = ss.data.open({"x": runs[:, 0], "y": runs, "visc": np.array([[0.01]])})
    assert (marched.runs, marched.steps) == (7, 5)
    assert torch.equal(marched.parameters["visc"], torch.full((7,), 0.01))


def test_conditions_are_told_from_states():
    rng = np.random.default_rng(2)
    u, ground, nu = rng.normal(size=(3, 5, 8)), rng.normal(size=8), np.array([3.0, 1.0, 2.0])
    import xarray

    set_ = xarray.Dataset(
        {
            "u": (("run", "time", "x"), u),
            "ground": (("x",), ground),
            "nu": (("run",), nu),
            "mean": (("time",), np.zeros(5)),
        },
        {"x": np.arange(8.0), "time": np.arange(5.0)},
    )
    data = ss.data.open(set_)
    assert [c.name for c in data.channels] == ["u"]
    assert torch.equal(data.parameters["nu"], torch.from_numpy(nu).float())
    assert torch.equal(data.parameters["ground"], torch.from_numpy(ground).float().expand(3, 8))
    assert "Left out: mean." in ss.data.describe(data)


def test_complex_fields_are_two_channels_unless_rounding():
    given = {"x": look.X, "t": look.T}
    both = ss.data.open({**given, "h": look.U + 2j * look.U})
    assert [c.name for c in both.channels] == ["h_re", "h_im"]
    assert torch.allclose(both.frames[:, :, 1], 2 * both.frames[:, :, 0])
    assert len(ss.data.open({**given, "h": look.U + 1e-9j}).channels) == 1


# ---- axes ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "wave", "expected"),
    [
        (np.linspace(-1, 1, 32, endpoint=False), True, (-1.0, 2.0, True, True)),
        (np.linspace(-1, 1, 33), False, (-1.0, 2.0, False, False)),
        (np.linspace(0, 2 * np.pi, 32, endpoint=False), True, (0.0, 2 * np.pi, True, True)),
        (np.linspace(0, 32 * np.pi, 65)[1:], True, (np.pi / 2, 32 * np.pi, True, True)),
        (np.linspace(0, 2 * np.pi, 32, endpoint=False), False, (0.0, 31 * np.pi / 16, False, False)),
        ((np.arange(32) + 0.5) / 32, False, (0.0, 1.0, False, True)),
        (np.linspace(0, 1, 33), False, (0.0, 1.0, False, False)),
        (np.linspace(0.31, 0.77, 32), True, (0.31, 0.46, False, False)),
    ],
)
def test_periodic_only_where_coordinates_and_field_agree(x, wave, expected):
    phase = np.arange(len(x)) / len(x)
    u = np.stack([np.sin(2 * np.pi * (phase - t)) if wave else np.exp(phase) + t for t in (0.0, 0.1, 0.2)])
    (axis,) = ss.data.open({"x": x, "t": np.arange(3.0), "u": u}).grid.axes
    assert (axis.start, axis.extent) == pytest.approx(expected[:2])
    assert axis.periodic == expected[2]
    assert axis.centred == expected[3]
    assert np.allclose(axis.coordinates().numpy(), x)


def test_longitudes_around_the_globe_are_periodic_whatever_the_field():
    import xarray

    noise = np.random.default_rng(0).normal(size=(3, 36))
    lon = xarray.DataArray(np.arange(36) * 10.0 + 5.0, dims="longitude", attrs={"units": "degrees_east"})
    data = ss.data.open(
        xarray.DataArray(noise, dims=("time", "longitude"), coords={"time": np.arange(3.0), "longitude": lon}, name="u")
    )
    assert data.grid.periodic


def test_a_periodic_axis_loses_the_point_that_repeats_the_first():
    x = np.linspace(0, 1, 17)
    u = np.stack([np.cos(2 * np.pi * (x - t)) for t in (0.0, 0.1)])
    data = ss.data.open({"x": x, "t": np.arange(2.0), "u": u}, periodic=True)
    assert data.grid.shape == (16,)
    assert data.grid.extent == (1.0,)
    assert torch.equal(data.frames[0, :, 0], torch.from_numpy(u[:, :16]).float())


def test_axes_that_run_downwards_are_turned_with_their_fields():
    up = ss.data.open({"x": look.X, "t": look.T, "u": look.U})
    down = ss.data.open({"x": look.X[::-1], "t": look.T, "u": look.U[::-1]})
    assert torch.equal(up.frames, down.frames)
    assert "turned round" in ss.data.describe(down)


def test_uneven_coordinates_are_refused_and_resampled_only_when_asked():
    x = np.linspace(0, 1, 21) ** 2
    given = {"x": x, "t": np.arange(3.0), "u": np.stack([2 * x + t for t in range(3)])}
    with pytest.raises(InputError, match=r"not equidistant .* resample=\{'x': 21\}"):
        ss.data.open(given)
    data = ss.data.open(given, resample={"x": 41}, dtype=torch.float64)
    assert data.grid.shape == (41,)
    exact = 2 * data.grid.coordinates(torch.float64)[0] + torch.arange(3.0, dtype=torch.float64)[:, None]
    assert torch.allclose(data.frames[0, :, 0], exact), "linear interpolation is exact on what is linear"
    uneven = {"x": np.arange(4.0), "t": np.array([0.0, 1.0, 3.0]), "u": np.zeros((3, 4))}
    with pytest.raises(InputError, match=r"'time' are not equidistant"):
        ss.data.open(uneven)
    assert ss.data.open(uneven, interval=2.0).interval == 2.0


def test_consecutive_months_are_a_unit_of_time():
    import xarray

    days = np.cumsum([0, 31, 28, 31, 30, 31, 30])
    time = xarray.DataArray(days, dims="time", attrs={"units": "days since 2001-01-01"})
    data = ss.data.open(
        xarray.DataArray(np.zeros((7, 4)), dims=("time", "x"), coords={"time": time, "x": np.arange(4.0)}, name="u")
    )
    assert (data.interval, data.about["time_unit"]) == (1.0, "months")


# ---- missing values ------------------------------------------------------------------------------------------------------------------


def test_land_becomes_a_mask_that_no_metric_and_no_window_counts():
    u = np.random.default_rng(0).normal(size=(6, 4, 5)) + 10
    u[:, 1:3, 2] = np.nan
    data = ss.data.open({"t": np.arange(6.0), "x": np.arange(4.0), "y": np.arange(5.0), "u": u})
    assert data.weights is not None
    assert (data.weights == 0).nonzero().tolist() == [[1, 2], [2, 2]]
    assert torch.isfinite(data.frames).all()
    window = ss.data.Windows(data, 2, 3).next(torch.Generator().manual_seed(0))
    assert torch.equal(window.weights, data.weights)
    spoilt = data.frames.clone()
    spoilt[..., 1:3, 2] = 1e6
    from dataclasses import replace

    from slipstream.steppers import Persistence

    still = Persistence(data.grid, data.interval, data.channels)
    one, two = ss.verify(still, data), ss.verify(still, replace(data, frames=spoilt))
    for metric in ("relative_l2", "nrmse", "vrmse", "rmse", "brmse"):
        assert one.metrics["model"][metric] == pytest.approx(two.metrics["model"][metric])


def test_gaps_are_refused_and_filled_in_time_only_when_asked():
    u = np.repeat(np.arange(6.0)[:, None], 4, axis=1)
    u[2:4, 1] = np.nan
    given = {"t": np.arange(6.0), "x": np.arange(4.0), "u": u}
    with pytest.raises(InputError, match=r"2 values .* frame 2, channel 'u', at point \(1,\).*missing='interpolate'"):
        ss.data.open(given)
    data = ss.data.open(given, missing="interpolate")
    assert torch.equal(data.frames[0, :, 0, 1], torch.arange(6.0))
    with pytest.raises(InputError, match="infinite"):
        ss.data.open({**given, "u": np.full((6, 4), np.inf)}, missing="interpolate")


# ---- tables and points ---------------------------------------------------------------------------------------------------------------


def test_scattered_points_are_refused_and_interpolated_only_when_asked(tmp_path):
    points = np.random.default_rng(0).uniform(size=(4000, 2))
    keep = np.hypot(*(points - 0.5).T) > 0.2  # a hole
    points = np.concatenate([points[keep], [[0, 0], [0, 1], [1, 0], [1, 1]]])
    table = tmp_path / "holed.csv"
    table.write_text("x,y,u\n" + "\n".join(f"{x!r},{y!r},{3 * x - y!r}" for x, y in points.tolist()))
    with pytest.raises(InputError, match=r"scattered points \(x in \[0, 1\].*resample=\{'x': 64, 'y': 64\}"):
        ss.data.open(table)
    data = ss.data.open(table, resample={"x": 21, "y": 21}, dtype=torch.float64)
    x, y = data.grid.coordinates(torch.float64)
    counts = data.weights > 0
    assert torch.allclose(data.frames[0, 0, 0][counts], (3 * x - y)[counts])
    hole = torch.hypot(x - 0.5, y - 0.5)
    assert not counts[hole < 0.2 - 2 * 0.05].any(), "a hole is not bridged"
    assert counts[(hole > 0.3)].all()


def test_a_folder_of_tables_is_a_run_in_time(tmp_path):
    data = ss.data.open(look.tables(tmp_path / "snapshots"), dtype=torch.float64)
    assert (data.steps, data.interval, data.grid.shape) == (11, pytest.approx(0.1), (16, 2))
    assert np.abs(data.frames[0, :, 0, :, 1].numpy() - look.U.T).max() < 1e-12
    assert "Times are the numbers in the names" in ss.data.describe(data)


def test_a_table_without_names_needs_the_names_of_its_coordinates(tmp_path):
    path = tmp_path / "plain.dat"
    path.write_text("\n".join(f"{x} {y} {x + 10 * y}" for x in range(3) for y in range(4)))
    with pytest.raises(InputError, match=r"axes='x y'"):
        ss.data.open(path)
    data = ss.data.open(path, axes="x y", channels="height")
    assert [c.name for c in data.channels] == ["height"]
    assert torch.equal(data.frames[0, 0, 0], torch.arange(3.0)[:, None] + 10 * torch.arange(4.0))


def test_non_ascii_names_are_names_like_others(tmp_path):
    path = tmp_path / "Größe.npz"
    np.savez(path, x=look.X, t=look.T, **{"température": look.U})
    assert ss.data.open(path).channels[0].name == "température"


def test_a_mesh_without_meshio_names_the_extra(tmp_path):
    try:
        import meshio
    except ImportError:
        (tmp_path / "a.vtu").write_text("<VTKFile><Piece NumberOfPoints='4'/></VTKFile>")
        with pytest.raises(MissingExtra, match=r"slipstream\[vtk\]"):
            ss.data.open(tmp_path / "a.vtu")
    else:
        mesh = meshio.Mesh(
            np.array([[x, y, 0.0] for x in range(3) for y in range(4)]), [("vertex", np.arange(12)[:, None])]
        )
        mesh.point_data["u"] = np.arange(12.0)
        mesh.write(tmp_path / "a.vtu")
        assert torch.equal(ss.data.open(tmp_path / "a.vtu").frames[0, 0, 0], torch.arange(12.0).reshape(3, 4))


# ---- HDF5 conventions ----------------------------------------------------------------------------------------------------------------


def test_pdebench_in_one_array_and_in_groups(tmp_path):
    one = ss.data.open(look.pdebench(tmp_path / "advection.hdf5"))
    assert (one.runs, one.steps, one.interval) == (2, 11, pytest.approx(0.1))
    assert np.allclose(one.frames[1, :, 0].numpy(), 2 * look.U.T, atol=1e-6)
    two = ss.data.open(look.pdebench_groups(tmp_path / "reaction.h5"))
    assert (two.runs, two.steps, [c.name for c in two.channels], two.grid.shape) == (2, 11, ["u_0", "u_1"], (16, 4))
    assert np.allclose(two.frames[1, :, 1, :, 3].numpy(), -2 * look.U.T, atol=1e-6)


def well(tmp_path) -> ss.Trajectories:
    from slipstream.channels import as_channels

    frames = torch.randn(3, 5, 3, *GRID.shape, generator=torch.Generator().manual_seed(0))
    parameters = {"nu": torch.tensor([1.0, 2.0, 3.0]), "ground": torch.randn(3, *GRID.shape)}
    return ss.Trajectories(
        frames, GRID, 0.25, as_channels(["p", "velocity_x", "velocity_y"]), parameters, start_time=1.0
    )


def test_the_well_gives_back_what_was_written(tmp_path):
    data = well(tmp_path)
    path = ss.data.write_well(tmp_path / "flow.hdf5", data)
    back = ss.data.open(path)
    assert back.grid == data.grid
    assert (back.interval, back.start_time) == (0.25, 1.0)
    assert [c.name for c in back.channels] == [c.name for c in data.channels]
    assert torch.equal(back.frames, data.frames)
    assert {k: v.tolist() for k, v in back.parameters.items()} == {k: v.tolist() for k, v in data.parameters.items()}
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_keeps_the_wells_own_rules(tmp_path):
    """Read with nothing of ours: groups, names, shapes and attributes that its specification asks for."""
    data = well(tmp_path)
    with h5py.File(ss.data.write_well(tmp_path / "flow.hdf5", data)) as file:
        assert file.attrs["grid_type"] == "cartesian"
        assert (file.attrs["n_spatial_dims"], file.attrs["n_trajectories"]) == (2, 3)
        assert list(file["dimensions"].attrs["spatial_dims"]) == ["x", "y"]
        assert file["dimensions/time"].shape == (5,)
        assert file["t0_fields/p"].shape == (3, 5, 6, 8)
        assert file["t1_fields/velocity"].shape == (3, 5, 6, 8, 2)
        assert list(file["t1_fields"].attrs["field_names"]) == ["velocity"]
        assert not file["t0_fields/ground"].attrs["time_varying"]
        kinds = {tuple(b.attrs["associated_dims"]): b.attrs["bc_type"] for b in file["boundary_conditions"].values()}
        assert kinds == {("x",): "PERIODIC", ("y",): "OPEN"}
        for group in ("t0_fields", "t1_fields", "t2_fields"):
            for field in file[group].values():
                assert field.dtype == np.float32
                assert list(field.attrs["dim_varying"]) == [True, True]


def test_well_fields_that_are_constant_along_an_axis_are_spread(tmp_path):
    with h5py.File(ss.data.write_well(tmp_path / "flow.hdf5", well(tmp_path)), "r+") as file:
        made = file["t0_fields"].create_dataset("profile", data=np.arange(8.0, dtype=np.float32))
        made.attrs.update({"dim_varying": [False, True], "sample_varying": False, "time_varying": False})
    profile = ss.data.open(tmp_path / "flow.hdf5").parameters["profile"]
    assert torch.equal(profile, torch.arange(8.0).expand(3, 6, 8))


# ---- real data -----------------------------------------------------------------------------------------------------------------------

SHARED = Path(os.environ.get("SLIPSTREAM_SHARED_DATA", "/nowhere"))
REAL = {
    # file: (keywords, how its description begins)
    "deephpms/burgers_sine.mat": ({}, "usol: 1 run, 201 times 0 to 10, 1 channel, x 256 points in [-8, 8) periodic"),
    "deephpms/KdV_sine.mat": ({}, "usol: 1 run, 201 times 0 to 40, 1 channel, x 512 points in [-20, 20) periodic"),
    "pinns/KdV.mat": ({}, "uu: 1 run, 201 times 0 to 1, 1 channel, x 512 points in [-1, 1) periodic"),
    "pinns/AC.mat": ({}, "uu: 1 run, 201 times 0 to 1, 1 channel, x 512 points in [-1, 1) periodic"),
    "pinns/NLS.mat": ({}, "uu_re, uu_im: 1 run, 201 times 0 to 1.5708, 2 channels, x 256 points in [-5, 5) periodic"),
    "pinns/burgers_shock.mat": ({}, "usol: 1 run, 100 times 0 to 0.99, 1 channel, x 256 points in [-1, 1]"),
    "pysindy/burgers.mat": ({}, "usol: 1 run, 101 times 0 to 10, 1 channel, x 256 points in [-8, 8) periodic"),
    "pysindy/kuramoto_sivashinsky.mat": ({}, "uu: 1 run, 251 times 0 to 100, 1 channel, x 1024 points in [0.0981748, 100.629) periodic"),
    "pinns/cylinder_nektar_t0_vorticity.mat": ({}, "49852 scattered points"),
    "pinnacle/burgers1d.dat": ({}, "u: 1 run, 11 times 0 to 1, 1 channel, x 101 points in [-1, 1]"),
    "pinnacle/heat_multiscale_lesspoints.dat": ({}, "u (K): 1 run, 26 times 0 to 5, 1 channel, x 300 cells in [0, 1]"),
    "pinnacle/lid_driven_a4.dat": ({"resample": {"x": 64, "y": 64}}, "u, v, p: 1 run, steady, 3 channels"),
    "pinnacle/lid_driven_a8.dat": ({}, "not equidistant"),
    "pinnacle/ns2d.dat": ({"resample": {"x": 32, "y": 32}}, "u (m/s), v (m/s), p (Pa): 1 run, steady"),
    "pinnacle/ns_0_obstacle.dat": ({}, "12910 scattered points"),
    "pinnacle/poisson_classic.dat": ({}, "Name the columns"),
    "neuraloperator/darcy_train_16.pt": ({}, "solution: 1000 runs, steady, 1 channel, x 16 cells"),
    "neuraloperator/darcy_test_32.pt": ({}, "solution: 50 runs, steady, 1 channel, x 32 cells"),
    "neuraloperator/burgers_train_16.pt": ({"periodic": True, "interval": 1 / 16}, "u: 800 runs, 17 times 0 to 1, 1 channel, x 16 points"),
    "pina/holed_poisson.pt": ({}, "No coordinates have the length"),
    "pydmd": ({"resample": {"x": 24, "y": 20}}, "U:0, U:1, U:2, epsilon, k, nut, p: 1 run, 10 times 0.2 to 0.38"),
    "pydmd/atmosphere-temperature-lines.nc": ({}, "Tperturb (K): 1 run, 3660 times"),
    "iris/A1B_north_america.nc": ({}, "air_temperature (K): 1 run, 240 times"),
    "iris/ostia_monthly.nc": ({}, "surface_temperature (K): 1 run, 54 times 0 to 53 months, 1 channel, latitude 18 points"),
    "iris/hybrid_height.nc": ({}, "air_potential_temperature (K): 1 run, steady"),
    "iris/orca2_votemper.nc": ({}, "a curvilinear grid"),
    "iris/toa_brightness_stereographic.nc": ({}, "data (K): 1 run, steady"),
    "iris/space_weather.nc": ({}, "'height' are not equidistant"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="SLIPSTREAM_SHARED_DATA names no folder")
@pytest.mark.parametrize("file", REAL)
def test_data_that_others_made(file):
    keywords, words = REAL[file]
    try:
        said = ss.data.describe(ss.data.open(SHARED / file, **keywords))
    except InputError as error:
        said = str(error)
        assert words in said
    else:
        assert said.startswith(words)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="SLIPSTREAM_SHARED_DATA names no folder")
def test_real_numbers_are_the_files_own():
    usol = scipy.io.loadmat(SHARED / "deephpms/burgers_sine.mat")["usol"]
    data = ss.data.open(SHARED / "deephpms/burgers_sine.mat", dtype=torch.float64)
    assert np.array_equal(data.frames[0, :, 0].numpy(), usol.T)
    ostia = ss.data.open(SHARED / "iris/ostia_monthly.nc")
    counted = ostia.frames[..., ostia.weights > 0]
    assert 288.9 < float(counted.min()) < float(counted.max()) < 304.5
