"""Files of tensors written by `torch.save`: a tensor, or a mapping of tensors. Read with ``weights_only``, which runs no code."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from slipstream.data.formats.contents import Array, Contents, check_size, damaged
from slipstream.errors import InputError, SlipstreamError


def read(path: Path, memory: int) -> Contents:
    """Every tensor, by its key; a lone tensor is called ``u``."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_size(path, [(m.filename, (m.file_size,), 1) for m in archive.infolist()], memory)
        content = torch.load(path, weights_only=True, map_location="cpu")
    except SlipstreamError:
        raise
    except zipfile.BadZipFile as error:
        raise damaged(path, "a file of tensors", error) from None
    except Exception as error:  # whatever a damaged or hostile file makes the reader say
        raise damaged(path, "a file of tensors (only tensors are read, never code)", error) from None
    if isinstance(content, Tensor):
        content = {"u": content}
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}; expected a tensor or a mapping of tensors.")
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    left = [str(k) for k in content if str(k) not in tensors]
    sparse = [k for k, v in tensors.items() if v.layout != torch.strided or v.is_quantized]
    if sparse:
        raise InputError(f"{path}: {sparse} are sparse or quantised tensors; save dense ones.")
    # A tensor may be a view that repeats few numbers many times: what counts is what a copy of it would take.
    check_size(path, [(k, tuple(v.shape), v.element_size()) for k, v in tensors.items()], memory)
    arrays = {}
    for key, value in tensors.items():
        value = value.detach().resolve_conj().resolve_neg()
        arrays[key] = Array((value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy())
    notes = (f"Left out, not being tensors: {', '.join(left)}.",) if left else ()
    return Contents(path.name, arrays, notes)
