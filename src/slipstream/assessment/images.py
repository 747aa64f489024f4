"""Fields as images: colours in which equal steps look equal, frames as bytes, and sheets of frames for the player."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from slipstream.assessment.assessment import Example


def _oklch(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """sRGB bytes of colours in OKLCH (Ottosson 2020), where equal steps look equal."""
    a, b = chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))
    lms = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    matrix = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(matrix @ lms**3, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb.T).astype(np.uint8)


def diverging() -> np.ndarray:
    """256 colours for signed fields: blue, paper, rust; lightness falls evenly to both sides."""
    s = np.linspace(-1, 1, 256)
    size = np.abs(s)
    return _oklch(0.975 - 0.6 * size, 0.185 * size * (1.45 - size) + 0.03 * size**2, np.where(s < 0, 252.0, 40.0))


def sequential() -> np.ndarray:
    """256 colours for fields of one sign: from dark blue to pale yellow, lightness rising evenly."""
    s = np.linspace(0, 1, 256)
    return _oklch(0.24 + 0.73 * s, 0.06 + 0.3 * s * (1 - s) ** 0.8, 275 - 185 * s)


@dataclass(frozen=True)
class Images:
    """An example as bytes (time, height, width) on one scale, x to the right, y upwards; 1D fields have time to the right.

    `low`, `high` : the values of bytes 0 and 255. `zoom` : what the difference was multiplied by to be seen at all.
    """

    truth: np.ndarray
    prediction: np.ndarray
    difference: np.ndarray
    palette: np.ndarray
    difference_palette: np.ndarray
    low: float
    high: float
    zoom: int


def images(example: Example) -> Images:
    """Bytes for the eye: one scale for truth and model, zero in the middle of it where the field has both signs."""
    truth, model = (_pictures(f.detach().double().cpu()).numpy() for f in (example.truth, example.prediction))
    low, high = float(np.nanmin(truth)), float(np.nanmax(truth))
    signed = low < 0 < high and min(-low, high) > 0.05 * max(-low, high)
    if signed:
        high = float(np.nanquantile(np.abs(truth), 0.998))
        low = -high
    if high <= low:
        low, high = low - 0.5, high + 0.5
    half = high if signed else (high - low) / 2
    largest = float(np.nanmax(np.abs(np.where(np.isfinite(model), model - truth, 0.0))))
    zoom = 10 ** max(0, math.floor(math.log10(0.9 * half / largest))) if largest > 0 else 1

    def as_bytes(u: np.ndarray, a: float, b: float) -> np.ndarray:
        return np.round(255 * np.clip(np.nan_to_num((u - a) / (b - a), nan=0.5), 0, 1)).astype(np.uint8)

    difference = as_bytes(zoom * (model - truth), -half, half)
    palette = diverging() if signed else sequential()
    return Images(
        as_bytes(truth, low, high), as_bytes(model, low, high), difference, palette, diverging(), low, high, zoom
    )


def _pictures(u: Tensor) -> Tensor:
    """(time, height, width): the middle plane of a volume, the space-time picture of a line."""
    if u.ndim == 2:
        return u.T.flip(0)[None]
    while u.ndim > 3:
        u = u.select(-1, u.shape[-1] // 2)
    return u.transpose(-1, -2).flip(-2)


def thin(example: Example, pixels: int) -> Example:
    """The example with so few frames and points that its pictures have at most about `pixels` points each."""
    frames, dims = example.truth.shape[0], example.truth.ndim - 1
    if dims == 1:
        return example
    side = max(example.truth.shape[1:3])
    step = max(1, math.ceil(side / 128))
    area = math.prod(math.ceil(n / step) for n in example.truth.shape[1:3])
    wanted = max(2, min(frames, pixels // area))
    kept = sorted({round(i * (frames - 1) / max(1, wanted - 1)) for i in range(wanted)})

    def taken(u: Tensor) -> Tensor:
        return u[kept][:, ::step, ::step]

    return Example(
        example.title,
        tuple(example.times[i] for i in kept),
        taken(example.truth),
        taken(example.prediction),
        example.unit,
    )


def sheet(frames: np.ndarray, palette: np.ndarray) -> str:
    """Frames below one another as one paletted PNG, as a data address."""
    from PIL import Image

    picture = Image.fromarray(frames.reshape(-1, frames.shape[-1]), "P")
    picture.putpalette(palette.tobytes())
    out = io.BytesIO()
    picture.save(out, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def gradient(palette: np.ndarray) -> str:
    """The colours as a CSS gradient, for the colour bar."""
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in palette[:: 255 // 15])
    return f"linear-gradient(to right, {stops})"
