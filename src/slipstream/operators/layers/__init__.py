"""Layers that several architectures share."""

from slipstream.operators.layers.checks import check_built, check_input
from slipstream.operators.layers.convolutions import CONVOLUTIONS, TRANSPOSED, ResidualBlock, group_norm
from slipstream.operators.layers.latent import NeuralSpectralBlock
from slipstream.operators.layers.modulation import Modulation
from slipstream.operators.layers.multigrid import MultigridConv
from slipstream.operators.layers.padding import Pad, Padding, per_axis
from slipstream.operators.layers.pointwise import ChannelMLP, Pointwise
from slipstream.operators.layers.spectral import Form, SpectralConv

__all__ = [
    "CONVOLUTIONS",
    "TRANSPOSED",
    "ChannelMLP",
    "Form",
    "Modulation",
    "MultigridConv",
    "NeuralSpectralBlock",
    "Pad",
    "Padding",
    "Pointwise",
    "ResidualBlock",
    "SpectralConv",
    "check_built",
    "check_input",
    "group_norm",
    "per_axis",
]
