"""Modules made cheaper: transforms, and the search for the combination that pays."""

from slipstream.compression.accelerated import Accelerated
from slipstream.compression.batching import Batched
from slipstream.compression.compiled import Compiled
from slipstream.compression.memory_format import ChannelsLast
from slipstream.compression.onnx import Onnx
from slipstream.compression.precision import Bfloat16
from slipstream.compression.quantised import Int8Linear
from slipstream.compression.spectral_form import SpectralForm
from slipstream.compression.transform import Cost, Handle, OneShot, Stage, Transform

__all__ = [
    "Accelerated",
    "Batched",
    "Bfloat16",
    "ChannelsLast",
    "Compiled",
    "Cost",
    "Handle",
    "Int8Linear",
    "OneShot",
    "Onnx",
    "SpectralForm",
    "Stage",
    "Transform",
]
