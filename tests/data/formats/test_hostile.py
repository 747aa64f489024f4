"""Damaged and hostile files: one clear error each, no code run, no memory for what is only declared."""

from __future__ import annotations

import io
import json
import pickle
import struct
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch

import slipstream as ss
from slipstream.errors import InputError, SlipstreamError

sys.path.insert(0, str(Path(__file__).parent))
import lookalikes as look

TOUCHED: list[str] = []
MOST = 200 * 10**6


def touched(word: str) -> str:
    """What a hostile file would like to be called."""
    TOUCHED.append(word)
    return word


class Hostile:
    def __reduce__(self):
        return touched, ("run",)


def cut(maker: Callable[[Path], Path], share: float = 0.5) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        whole = maker(path).read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        return path

    return make


def text(content: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_text(content)
        return path

    return make


def raw(content: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return make


def arrays(**given: np.ndarray) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        np.savez(path, **given)
        return path

    return make


def npy_of(shape: tuple[int, ...], inside: int = 64) -> bytes:
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + head.encode() + bytes(inside)


def objects_npz(path: Path) -> Path:
    np.savez(path, u=np.array([Hostile()], dtype=object))
    return path


def hostile_npy(path: Path) -> Path:
    np.save(path, np.array([Hostile()], dtype=object))
    return path


def hostile_pt(path: Path) -> Path:
    torch.save({"u": Hostile()}, path)
    return path


def legacy_pt(path: Path) -> Path:
    path.write_bytes(pickle.dumps(Hostile()))
    return path


def wide_pt(path: Path) -> Path:
    """Eight bytes that look like ten terabytes: a view that repeats itself."""
    torch.save({"u": torch.zeros(1, dtype=torch.float64).expand(10**6, 10**6)}, path)
    return path


def no_tensors_pt(path: Path) -> Path:
    torch.save([1, 2], path)
    return path


def strange_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    return path


def bad_member(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("u.npy", npy_of((1000, 1000)))
    return path


def cells_mat(path: Path) -> Path:
    scipy.io.savemat(path, {"u": np.array([[1], "two"], dtype=object)})
    return path


def bomb_mat(path: Path) -> Path:
    """A few kilobytes that say that they grow to 4 GB."""
    squeezed = zlib.compress(struct.pack("<II", 14, 2**32 - 9) + bytes(2**20))
    path.write_bytes(
        b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(squeezed)) + squeezed
    )
    return path


def lying_mat(path: Path) -> Path:
    """An array that says it is small and goes on for a gigabyte: only what was declared is unpacked."""
    content = struct.pack("<IIII", 14, 56, 6, 8) + struct.pack("<II", 6, 0) + struct.pack("<IIii", 5, 8, 2, 2)
    content += struct.pack("<II", 1, 2**30) + bytes(2**26)
    squeezed = zlib.compress(content, 9)
    path.write_bytes(
        b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(squeezed)) + squeezed
    )
    return path


def wide_mat(path: Path) -> Path:
    """Dimensions of a million by a million over no numbers."""
    dims = struct.pack("<IIii", 5, 8, 10**6, 10**6)
    body = (
        struct.pack("<IIII", 6, 8, 6, 0)
        + dims
        + struct.pack("<IBxxx", 1 | (1 << 16), ord("u"))
        + struct.pack("<II", 9, 8)
        + bytes(8)
    )
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 14, len(body)) + body)
    return path


def h5(fill: Callable[[h5py.File], None]) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        with h5py.File(path, "w") as file:
            fill(file)
        return path

    return make


def wide(file: h5py.File) -> None:
    file.create_dataset("u", shape=(10**6, 10**6), dtype="f8", chunks=(64, 64))


def external_link(file: h5py.File) -> None:
    file["u"] = h5py.ExternalLink("/etc/hostname", "/")


def external_numbers(file: h5py.File) -> None:
    file.create_dataset("u", shape=(8,), dtype="u1", external=[("/etc/passwd", 0, 8)])
    file["x"] = np.arange(8.0)


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(4, 4), dtype="f8")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "u", shape=(4, 4))
    file.create_virtual_dataset("u", layout)


def bad_well(file: h5py.File) -> None:
    file.create_group("dimensions").attrs["spatial_dims"] = ["x"]
    file.create_group("t0_fields")


def bad_pdebench(file: h5py.File) -> None:
    file["x-coordinate"], file["tensor"] = np.arange(4.0), np.zeros((2, 3, 5))


def pickled_zarr(path: Path) -> Path:
    """A Zarr array whose codec is pickle."""
    (path / "u").mkdir(parents=True)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    about = {"zarr_format": 2, "shape": [2, 4], "chunks": [2, 4], "dtype": "<f8", "compressor": {"id": "pickle"}, "filters": None,
             "fill_value": 0, "order": "C"}  # fmt: skip
    (path / "u" / ".zarray").write_text(json.dumps(about))
    (path / "u" / "0.0").write_bytes(pickle.dumps(Hostile()))
    return path


def nested_codec_zarr(path: Path) -> Path:
    look.zarr_folder(path)
    file = path / "u" / "zarr.json"
    about = json.loads(file.read_text())
    inner = {
        "name": "sharding_indexed",
        "configuration": {"chunk_shape": [1, 1], "codecs": [{"name": "numcodecs.pickle"}], "index_codecs": []},
    }
    about["codecs"] = [inner]
    file.write_text(json.dumps(about))
    return path


def wide_zarr(path: Path) -> Path:
    look.zarr_folder(path)
    file = path / "u" / "zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "shape": [10**6, 10**6]}))
    return path


def broken_zarr(path: Path) -> Path:
    look.zarr_folder(path)
    (path / "u" / "zarr.json").write_text("{")
    return path


def empty_folder(path: Path) -> Path:
    path.mkdir()
    return path


def odd_tables(path: Path) -> Path:
    look.tables(path)
    (path / "snapshot_0.5.csv").write_text("x,y,z,u\n0,0,0,0")
    return path


def buffer(values: np.ndarray) -> bytes:
    kept = io.BytesIO()
    np.save(kept, values)
    return kept.getvalue()


X, T, U = look.X, look.T, look.U
JUMBLED = X[np.random.default_rng(0).permutation(len(X))]
GAPPED = np.where(np.arange(len(T)) == 3, np.nan, U)

CASES: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    # what is wrong: (file name, made by, what the error says)
    "missing": ("none.npz", lambda p: p, "There is no file"),
    "empty": ("a.mat", raw(b""), "is empty"),
    "wrong magic": ("a.npz", raw(b"GIF89a" + bytes(100)), "no known format begins"),
    "picture called nc": ("a.nc", raw(b"\xff\xd8\xff\xe0" + bytes(100)), "no known format begins"),
    "npy of objects": ("a.npy", hostile_npy, "only arrays of numbers"),
    "npz of objects": ("a.npz", objects_npz, "only arrays of numbers"),
    "npy with an absurd shape": ("a.npy", raw(npy_of((10**9, 10**9))), "more than the 2.15 GB allowed"),
    "npy with a shape beyond its bytes": ("a.npy", raw(npy_of((100, 100))), "declares 80000 bytes"),
    "npy cut in its header": ("a.npy", raw(npy_of((4, 4))[:40]), "could not be read"),
    "npy header that is code": ("a.npy", raw(npy_of((4,)).replace(b"'<f8'", b"id(1)")), "could not be read"),
    "npy of a future version": ("a.npy", raw(b"\x93NUMPY\x09\x00" + bytes(200)), "could not be read|version"),
    "npz cut": ("a.npz", cut(look.npz), "could not be read"),
    "npz whose member is short": ("a.npz", bad_member, "declares shape"),
    "npz that grows": ("a.npz", lambda p: look.bomb_npz(p, 2**40), "more than the 2.15 GB allowed"),
    "zip of something else": ("a.npz", strange_zip, "zip archive of"),
    "mat cut": ("a.mat", cut(look.mat), "could not be read"),
    "mat with noise": ("a.mat", raw(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + bytes(range(256))), "could not be read"),
    "mat of cells": ("a.mat", cells_mat, "It holds no numbers"),
    "mat that grows": ("a.mat", bomb_mat, "more than the 2.15 GB allowed"),
    "mat that lies about its growth": ("a.mat", lying_mat, "could not be read|no numbers|no two have one length"),
    "values beyond single precision": ("a.npz", arrays(x=X, t=T, u=1e100 * U), "beyond what torch.float32 holds"),
    "mat with absurd dimensions": ("a.mat", wide_mat, "more than the 2.15 GB allowed"),
    "mat 7.3 cut": ("a.mat", cut(look.mat73), "could not be read"),
    "pt with code": ("a.pt", hostile_pt, "only tensors are read"),
    "pt of old with code": ("a.pt", legacy_pt, "no known format begins"),
    "pt cut": ("a.pt", cut(look.pt), "could not be read"),
    "pt that repeats itself": ("a.pt", wide_pt, "more than the 2.15 GB allowed"),
    "pt of numbers": ("a.pt", no_tensors_pt, "holds a list"),
    "hdf5 cut": ("a.h5", cut(look.pdebench), "could not be read"),
    "hdf5 with an absurd shape": ("a.h5", h5(wide), "more than the 2.15 GB allowed"),
    "hdf5 that links away": ("a.h5", h5(external_link), "link into another file"),
    "hdf5 with numbers elsewhere": ("a.h5", h5(external_numbers), "lie in other files"),
    "hdf5 with virtual numbers": ("a.h5", h5(virtual), "lie in other files"),
    "hdf5 without anything": ("a.h5", h5(lambda file: None), "holds no numbers"),
    "The Well without its axes": ("a.hdf5", h5(bad_well), "names the axes"),
    "PDEBench with other coordinates": ("a.hdf5", h5(bad_pdebench), "as its coordinates say"),
    "netcdf 4 cut": ("a.nc", cut(look.nc4), "could not be read"),
    "netcdf 3 cut": ("a.nc", cut(look.nc3), "could not be read|more numbers than"),
    "zarr with pickle": ("a.zarr", pickled_zarr, "may run code"),
    "zarr with pickle inside a shard": ("a.zarr", nested_codec_zarr, "may run code"),
    "zarr with an absurd shape": ("a.zarr", wide_zarr, "more than the 2.15 GB allowed"),
    "zarr with a broken description": ("a.zarr", broken_zarr, "could not be read"),
    "folder without data": ("a", empty_folder, "folder without data"),
    "folder of unlike tables": ("a", odd_tables, "differs from"),
    "table with a word": ("a.csv", text("x,u\n0,1\n1,two\n"), "could not be read"),
    "table with short lines": ("a.csv", text("x,u\n0,1\n1\n"), "could not be read"),
    "table without numbers": ("a.csv", text("x,u\n"), "without a line of numbers"),
    "table that is binary": ("a.csv", raw(b"x,u\n\xff\xfe\x00\x01"), "could not be read"),
    "mesh with absurd numbers": ("a.vtu", text("<VTKFile><Piece NumberOfPoints='999999999999'/></VTKFile>"), "more than the 2.15 GB"),
    "coordinates out of order": ("a.npz", arrays(x=JUMBLED, t=T, u=U), "do not increase"),
    "coordinates with NaN": ("a.npz", arrays(x=np.where(X[2] == X, np.nan, X), t=T, u=U), "not finite"),
    "coordinates twice": ("a.npz", arrays(x=np.repeat(X[::2], 2), t=T, u=U), "do not increase"),
    "NaN now and then": ("a.npz", arrays(x=X, t=T, u=GAPPED), "missing now and then"),
    "nothing but NaN": ("a.npz", arrays(x=X, t=T, u=np.full_like(U, np.nan)), "every value is missing"),
    "infinite": ("a.npz", arrays(x=X, t=T, u=np.where(U > 0.9, np.inf, U)), "infinite"),
    "array without numbers": ("a.npz", arrays(x=X, t=T, u=np.empty((16, 0))), "is empty"),
    "times out of order": ("a.npz", arrays(x=X, t=T[::-1] ** 2, u=U), "do not increase"),
    "one number": ("a.npy", raw(buffer(np.float64(3))), "No array has two dimensions"),
    "text in an array": ("a.npz", arrays(u=np.array([["a", "b"]])), "only arrays of numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_clear_error_and_neither_code_nor_memory(case, tmp_path):
    name, make, words = CASES[case]
    path = make(tmp_path / f"Ünïcode {name}")
    TOUCHED.clear()
    tracemalloc.start()
    try:
        with pytest.raises(SlipstreamError, match=words) as caught:
            ss.data.open(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST
    assert TOUCHED == [], "a file ran code"
    assert "Ünïcode" in str(caught.value), "the error names the file"
    assert caught.value.__cause__ is None or not isinstance(caught.value.__cause__, MemoryError)


def test_the_hostile_files_would_run_code_if_they_were_let():
    """Or the table above would prove nothing."""
    TOUCHED.clear()
    pickle.loads(pickle.dumps(Hostile()))
    assert TOUCHED == ["run"]


def test_at_least_forty_ways_are_tried():
    assert len(CASES) >= 40


@pytest.mark.parametrize("seed", range(60))
def test_flipped_bytes_end_in_an_error_of_ours_or_in_finite_fields(seed, tmp_path):
    rng = np.random.default_rng(seed)
    name = list(look.MAKERS)[seed % len(look.MAKERS)]
    path = look.MAKERS[name](tmp_path / name)
    target = path if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())[seed % 3]
    content = bytearray(target.read_bytes())
    for place in rng.integers(0, len(content), 4):
        content[place] = rng.integers(0, 256)
    target.write_bytes(content)
    try:
        data = ss.data.open(path)
    except SlipstreamError:
        return
    assert torch.isfinite(data.frames).all()


def test_more_memory_is_allowed_when_asked(tmp_path):
    np.save(tmp_path / "u.npy", np.zeros((64, 64)))
    with pytest.raises(InputError, match="memory="):
        ss.data.open(tmp_path / "u.npy", axes="t x", memory=1000)
    assert ss.data.open(tmp_path / "u.npy", axes="t x", memory=10**6).frames.shape == (1, 64, 1, 64)
