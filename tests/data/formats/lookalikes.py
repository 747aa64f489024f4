"""Tiny files of every format, made as their own makers make them, and the fields that are in them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import numpy as np
import scipy.io
import torch

NX, NT = 16, 11
X = np.linspace(-8.0, 8.0, NX, endpoint=False)
T = np.linspace(0.0, 1.0, NT)
U = np.sin(2 * np.pi * (X[:, None] / 16 - T[None]))
"""A wave on a periodic box, (x, t)."""


def npz(path: Path) -> Path:
    np.savez(path, x=X, t=T, u=U)
    return path


def npz_squeezed(path: Path) -> Path:
    np.savez_compressed(path, x=X, t=T, u=U)
    return path


def mat(path: Path) -> Path:
    scipy.io.savemat(path, {"x": X[None], "t": T[:, None], "u": U, "note": "made here"}, do_compression=True)
    return path


def mat73(path: Path) -> Path:
    """MATLAB 7.3: HDF5 behind 512 bytes that say so, arrays with their axes in reverse order."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in (("x", X[None]), ("t", T[:, None]), ("u", U)):
            made = file.create_dataset(name, data=value.T)
            made.attrs["MATLAB_class"] = np.bytes_(b"double")
        text = file.create_dataset("note", data=np.array([[109, 97]], dtype=np.uint16))
        text.attrs["MATLAB_class"] = np.bytes_(b"char")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def pt(path: Path) -> Path:
    torch.save({"x": torch.from_numpy(X), "t": torch.from_numpy(T), "u": torch.from_numpy(U)}, path)
    return path


def nc4(path: Path, fill: float = -999.0) -> Path:
    """NetCDF-4 as the C library lays it out: dimension scales, attributes, packing."""
    with h5py.File(path, "w") as file:
        file.attrs["_NCProperties"] = np.bytes_(b"version=2")
        for name, value, unit in (("x", X, b"m"), ("t", T, b"seconds since 2000-01-01")):
            made = file.create_dataset(name, data=value)
            made.make_scale(name)
            made.attrs["units"] = np.bytes_(unit)
        u = file.create_dataset("u", data=np.round(U.T * 1e4).astype(np.int32))
        u.attrs["scale_factor"], u.attrs["_FillValue"] = 1e-4, np.array([np.int32(fill)])
        u.attrs["units"] = np.bytes_(b"m s-1")
        u.dims[0].attach_scale(file["t"])
        u.dims[1].attach_scale(file["x"])
    return path


def nc3(path: Path) -> Path:
    with scipy.io.netcdf_file(path, "w") as file:
        file.createDimension("t", NT)
        file.createDimension("x", NX)
        for name, value, dims in (("x", X, ("x",)), ("t", T, ("t",)), ("u", U.T, ("t", "x"))):
            file.createVariable(name, "f8", dims)[:] = value
        file.variables["u"].units = b"m s-1"
    return path


def dataset():
    import xarray

    return xarray.Dataset({"u": (("t", "x"), U.T, {"units": "m s-1"})}, {"x": ("x", X, {"units": "m"}), "t": T})


def zarr_folder(path: Path, version: int = 3) -> Path:
    dataset().to_zarr(path, zarr_format=version, consolidated=False)
    return path


def pdebench(path: Path) -> Path:
    """One array for all runs; one time more than frames."""
    with h5py.File(path, "w") as file:
        file["tensor"] = np.stack([U.T, 2 * U.T]).astype(np.float32)
        file["x-coordinate"] = X.astype(np.float32)
        file["t-coordinate"] = np.append(T, 1.1).astype(np.float32)
    return path


def pdebench_groups(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        for run in range(2):
            group = file.create_group(f"{run:04d}")
            group["data"] = np.repeat((1 + run) * U.T[:, :, None, None], 4, axis=2) * np.array([1.0, -1.0])
            group["grid/x"], group["grid/y"], group["grid/t"] = X, np.arange(4.0), T
    return path


def csv(path: Path) -> Path:
    lines = [
        "x,t,u",
        *(
            f"{x!r},{t!r},{u!r}"
            for x, row in zip(X.tolist(), U.tolist(), strict=True)
            for t, u in zip(T.tolist(), row, strict=True)
        ),
    ]
    path.write_text("\n".join(lines))
    return path


def dat(path: Path) -> Path:
    """A finite-element code's export: one column a time."""
    head = "% Model: none\n% X  " + "  ".join(f"u (K) @ t={t:g}" for t in T)
    path.write_text(
        head + "\n" + "\n".join(" ".join(map(repr, [x, *row])) for x, row in zip(X.tolist(), U.tolist(), strict=True))
    )
    return path


def tables(path: Path) -> Path:
    path.mkdir()
    for i, t in enumerate(T):
        lines = [
            "x,y,z,u",
            *(f"{x!r},{y},0.0,{u!r}" for x, u in zip(X.tolist(), U[:, i].tolist(), strict=True) for y in (0.0, 1.0)),
        ]
        (path / f"snapshot_{t:.1f}.csv").write_text("\n".join(lines))
    return path


def bomb_npz(path: Path, bytes_inside: int) -> Path:
    """A small archive that says, truly, that it grows to very many bytes."""
    header = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({bytes_inside // 8},), }}".ljust(117) + "\n"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("u.npy", "w", force_zip64=True) as member,
    ):
        member.write(header + text.encode())
        block = bytes(2**20)
        for _ in range(min(bytes_inside // 2**20, 64)):
            member.write(block)
    return path


MAKERS = {
    "a.npz": npz, "b.npz": npz_squeezed, "c.mat": mat, "d.mat": mat73, "e.pt": pt, "f.nc": nc4, "g.nc": nc3,
    "h.zarr": zarr_folder, "h2.zarr": lambda p: zarr_folder(p, 2), "i.csv": csv, "j.dat": dat,
}  # fmt: skip
"""Files that all hold the one wave."""
