"""The climate and forecast conventions, as far as fields need them: missing values, packing, which variables are coordinates only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from slipstream.data.formats.contents import Array, Contents


def text(value: Any) -> str:
    """An attribute as text."""
    value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def unpacked(values: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    """Physical numbers: NaN where missing, scaled and shifted where packed."""
    missing = [np.ravel(np.asarray(attributes[k])) for k in ("_FillValue", "missing_value") if k in attributes]
    markers = [m for m in np.concatenate(missing) if np.isfinite(m)] if missing else []
    packed = "scale_factor" in attributes or "add_offset" in attributes
    absent = np.isin(values, np.asarray(markers).astype(values.dtype)) if markers else None
    if packed or (absent is not None and absent.any() and values.dtype.kind != "f"):
        values = values.astype(np.float64)
    if absent is not None and absent.any():
        values = np.where(absent, np.nan, values).astype(values.dtype)
    if packed:
        scale, offset = (
            float(np.ravel(attributes.get(k, d))[0]) for k, d in (("scale_factor", 1.0), ("add_offset", 0.0))
        )
        values = values * scale + offset
    return values


def gathered(
    source: str,
    variables: Mapping[str, tuple[np.ndarray, tuple[str, ...], Mapping[str, Any]]],
    notes: tuple[str, ...] = (),
) -> Contents:
    """Contents from named variables (values, dims, attributes); bounds, mappings and two-dimensional coordinates are set aside."""
    aside: set[str] = set()
    for _, _, attributes in variables.values():
        for key in ("bounds", "climatology", "grid_mapping"):
            if key in attributes:
                aside |= set(text(attributes[key]).replace(":", " ").split())
        if "coordinates" in attributes:
            aside |= set(text(attributes["coordinates"]).split())
    arrays, auxiliary = {}, []
    for name, (values, dims, attributes) in variables.items():
        if name in aside and (name,) != dims:
            auxiliary.append(name)
            if values.ndim < 2 or "bounds" in name:
                continue
        unit = text(attributes.get("units", ""))
        arrays[name] = Array(unpacked(values, attributes), dims, "" if unit in ("1", "-", "none") else unit)
    kept = {n: a for n, a in arrays.items() if n not in auxiliary}
    curved = tuple(n for n in auxiliary if n in arrays and arrays[n].values.ndim > 1 and "bnds" not in n)
    return Contents(source, kept, notes, auxiliary=curved)
