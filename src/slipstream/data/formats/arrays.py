"""What is in memory already: arrays and tensors, mappings of them, and anything of xarray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from slipstream.data.formats.contents import Array, Contents, plain
from slipstream.data.formats.conventions import gathered
from slipstream.errors import InputError

NAME = "the arrays given"


def read(source: Any) -> Contents:
    """Contents of an array (called ``u``), a mapping of arrays, or a labelled array or data set."""
    if hasattr(source, "to_dataset") and hasattr(source, "dims"):
        source = source.to_dataset(name=source.name or "u")
    if hasattr(source, "data_vars"):
        variables = {
            str(n): (np.asarray(v.values), tuple(map(str, v.dims)), {**v.encoding, **v.attrs})
            for n, v in source.variables.items()
        }
        kept = {n: (a, d, _unpacked(at)) for n, (a, d, at) in variables.items() if a.dtype.kind in "biufc"}
        return gathered(NAME, kept)
    if not isinstance(source, Mapping):
        source = {"u": source}
    arrays = {}
    for name, value in source.items():
        values = value.detach().cpu().resolve_conj().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        plain(NAME, str(name), values.dtype, "an array")
        arrays[str(name)] = Array(values)
    if not arrays:
        raise InputError("An empty mapping was given; expected arrays by name.")
    return Contents(NAME, arrays)


def _unpacked(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Without packing: xarray has undone that when it opened its file."""
    return {
        k: v for k, v in attributes.items() if k not in ("scale_factor", "add_offset", "_FillValue", "missing_value")
    }
