"""Networks as their authors published them, and ours built like them: where the code lies, how it is loaded, what is equal."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
BATCH, POINTS = 4, 64


@dataclass(frozen=True)
class Side:
    """A network and what it is applied to, in the layout that it takes; `answer` finds the field in what it gives."""

    model: nn.Module
    inputs: tuple[Tensor, ...]
    answer: Callable[[Any], Tensor] = lambda y: y

    def __call__(self) -> Tensor:
        return self.answer(self.model(*self.inputs))


@dataclass(frozen=True)
class Case:
    """One published network.

    Parameters
    ----------
    repository : its address after ``https://github.com/``; cloned under the last part of it. file : what defines the model.
    build : from that file, as a module, to their network and ours.
    idle : modules that the file imports and its model does not need.
    same : whether both are one network, our weights being theirs.
    apart : otherwise, what differs.
    package : what the file needs from elsewhere, as pip knows it.
    """

    repository: str
    file: str
    build: Callable[[Any], tuple[Side, Side]]
    idle: tuple[str, ...] = ()
    same: bool = False
    apart: str = ""
    package: str = ""

    def path(self, folder: Path) -> Path:
        return folder / self.repository.split("/")[1] / self.file

    def missing(self, folder: Path) -> str:
        """What to do for it to take part; empty where it can."""
        if not self.path(folder).is_file():
            return f"there is no {self.path(folder)}. git -C {folder} clone https://github.com/{self.repository}"
        if self.package and importlib.util.find_spec(self.package.partition("==")[0]) is None:
            return f'its file needs another package. pip install "{self.package}"'
        return ""

    def sides(self, folder: Path) -> dict[str, Side]:
        """Both networks. Of theirs only the file and what it imports from beside it is run."""
        path = self.path(folder)
        package = types.ModuleType(f"authors_of_{path.stem.lower()}")
        package.__path__ = [str(path.parent)]
        idle = {name: mock.MagicMock() for name in self.idle}
        # Not from here, where scripts have names of packages.
        elsewhere = [entry for entry in sys.path if Path(entry).resolve() != HERE]
        with (
            mock.patch.dict(sys.modules, {package.__name__: package, **idle}),
            mock.patch.object(sys, "path", elsewhere),
        ):
            theirs, ours = self.build(importlib.import_module(f"{package.__name__}.{path.stem}"))
        return {"theirs": theirs, "ours": ours}


def fields(channels: int = 1) -> Tensor:
    import torch

    return torch.randn(BATCH, channels, POINTS, POINTS, generator=torch.Generator().manual_seed(0))


FIVE_GRIDS = ((1, 0), (1, 0), (1, 0), (1, 0), (2, 0))


def mgno_walls(module: Any) -> tuple[Side, Side]:
    """As for Darcy flow."""
    from slipstream.operators import MgNO

    x = fields()
    ours = MgNO(hidden_channels=24, n_layers=5, cycle=FIVE_GRIDS, padding="zero")
    return Side(module.MgNO_DC(5, 24, 1, 1, FIVE_GRIDS), (x,)), Side(ours, (x,))


def mgno_periodic(module: Any) -> tuple[Side, Side]:
    """As for the Navier-Stokes equations, without a gain at every point of every grid."""
    from slipstream.operators import MgNO

    x = fields()
    ours = MgNO(hidden_channels=32, n_layers=5, cycle=FIVE_GRIDS, norm=True, shortcut=False)
    return Side(module.MgNO_NS(5, 32, 1, 1, FIVE_GRIDS, elementwise_affine=False), (x,)), Side(ours, (x,))


def lsm(module: Any) -> tuple[Side, Side]:
    import torch

    from slipstream.operators import LSM

    sizes = {"in_dim": 1, "out_dim": 1, "d_model": 32, "num_token": 4, "num_basis": 12}
    with mock.patch.object(torch.Tensor, "cuda", lambda tensor: tensor):  # theirs asks for a GPU when it is built
        theirs = module.Model(types.SimpleNamespace(**sizes, patch_size="4,4", padding="0,0"))
    x = fields()
    return Side(theirs, (x.movedim(1, -1).contiguous(),)), Side(LSM(padding="zero", coordinates=True), (x,))


def sinenet(module: Any) -> tuple[Side, Side]:
    """Four waves, as narrow as the published four; half as many channels on the finest grid."""
    from slipstream.operators import SineNet

    with contextlib.redirect_stdout(io.StringIO()):  # theirs prints its sizes
        theirs = module.sinenet(1, 0, 1, 0, 1, 1, 32, "circular", num_waves=4, mult=1.611)
    ours = SineNet(hidden_channels=32, waves=4, multiplier=1.611)
    _carry_sinenet(ours, theirs)
    x = fields()
    return Side(theirs, (x[:, None],), lambda y: y[:, 0]), Side(ours, (x,))


def _carry_sinenet(ours: Any, theirs: Any) -> None:
    def stage(mine: Any, its: Any) -> None:
        mine.around.load_state_dict(its.shortcut.state_dict())
        for block, other in zip(mine.blocks, its.conv, strict=True):
            for number, name in (("1", "first"), ("2", "second")):
                getattr(block, name).load_state_dict(getattr(other, f"conv{number}").state_dict())
                getattr(block, f"{name}_norm").load_state_dict(getattr(other, f"norm{number}").state_dict())

    ours.enter.load_state_dict(theirs.image_proj.state_dict())
    ours.leave.load_state_dict(theirs.final.state_dict())
    for wave, down, up in zip(ours.chain, theirs.down, theirs.up, strict=True):
        for mine, its in zip([*wave.down, *reversed(wave.up)], [*down, *up], strict=True):
            stage(mine, its)


def poseidon(module: Any) -> tuple[Side, Side]:
    """The smallest published size, with windows half as wide, as the grid is."""
    import torch

    from slipstream.operators import ScOT

    depths, heads, skips, channels = [4, 4, 4, 4], [3, 6, 12, 24], [2, 2, 2], 4
    theirs = module.ScOT(
        module.ScOTConfig(
            image_size=POINTS,
            patch_size=4,
            num_channels=channels,
            num_out_channels=channels,
            embed_dim=48,
            depths=depths,
            num_heads=heads,
            skip_connections=[*skips, 0],
            window_size=8,
            drop_path_rate=0.0,
            use_conditioning=True,
        )
    )
    ours = ScOT(channels, channels, 2, 48, depths, heads, 8, 4, skips, num_scalars=1, padding="zero")
    with torch.no_grad():
        _carry_scot(ours, theirs)
    x, lead = fields(channels), torch.linspace(0, 1, BATCH)
    return Side(theirs, (x, lead), lambda y: y.output), Side(ours, (x, lead[:, None]))


def _carry_scot(ours: Any, theirs: Any) -> None:
    import torch

    def norm(mine: Any, its: Any) -> None:
        its.weight.bias.fill_(1.0)  # theirs begins near 0, which would hide whatever lies behind it
        mine.gain.copy_(its.weight.bias)
        mine.offset.copy_(its.bias.bias)
        mine.slopes[0].copy_(torch.stack([its.weight.weight[:, 0], its.bias.weight[:, 0]]))

    def block(mine: Any, its: Any) -> None:
        inner, attention = its.attention.self, mine.attention
        attention.weight.copy_(torch.cat([inner.query.weight, inner.key.weight, inner.value.weight]))
        attention.query_bias.copy_(inner.query.bias)
        attention.value_bias.copy_(inner.value.bias)
        attention.sharpness.copy_(inner.logit_scale)
        attention.bias.first.load_state_dict(inner.continuous_position_bias_mlp[0].state_dict())
        attention.bias.second.load_state_dict(inner.continuous_position_bias_mlp[2].state_dict())
        attention.bias.window = inner.window_size[0]  # offsets in units of the window that fits, not of the widest
        attention.out.load_state_dict(its.attention.output.dense.state_dict())
        mine.mlp[0].load_state_dict(its.intermediate.dense.state_dict())
        mine.mlp[2].load_state_dict(its.output.dense.state_dict())
        norm(mine.first_norm, its.layernorm_before)
        norm(mine.second_norm, its.layernorm_after)

    def skip(mine: Any, its: Any) -> None:
        mine.stencil.load_state_dict(its.dwconv.state_dict())
        mine.first.load_state_dict(its.pwconv1.state_dict())
        mine.second.load_state_dict(its.pwconv2.state_dict())
        mine.weight.copy_(its.weight)
        norm(mine.norm, its.norm)

    down, up = theirs.encoder.layers, theirs.decoder.layers[::-1]
    ours.embedding.projection.load_state_dict(theirs.embeddings.patch_embeddings.projection.state_dict())
    norm(ours.embedding.norm, theirs.embeddings.norm)
    for mine, its in zip([*ours.down, *ours.up], [*down, *up], strict=True):
        for pair in zip(mine.blocks, its.blocks, strict=True):
            block(*pair)
    for mine, its in zip(ours.merge, down[:-1], strict=True):
        # Theirs joins the four column by column, ours row by row.
        four = its.downsample.reduction.weight.unflatten(1, (2, 2, -1))
        mine.reduction.weight.copy_(four.transpose(1, 2).flatten(1))
        norm(mine.norm, its.downsample.norm)
    for mine, its in zip(ours.joins, theirs.residual_blocks[:-1], strict=True):
        for pair in zip(mine.blocks, its, strict=True):
            skip(*pair)
    for mine, its in zip(ours.expand, up[1:], strict=True):
        mine.expansion.load_state_dict(its.upsample.upsample.state_dict())
        mine.mix.load_state_dict(its.upsample.mixup.state_dict())
        norm(mine.norm, its.upsample.norm)
    ours.recovery.projection.load_state_dict(theirs.patch_recovery.projection.state_dict())
    ours.recovery.heal.load_state_dict(theirs.patch_recovery.mixup.state_dict())


CASES = {
    "MgNO, walls": Case(
        "xlliu2017/MgNO",
        "models.py",
        mgno_walls,
        idle=("torchinfo", "utilities3"),
        apart="Between walls the grids of theirs have 64, 32, 16, 8, 4 points, those of ours 64, 31, 15, 7, 3.",
    ),
    "MgNO, periodic": Case(
        "xlliu2017/MgNO",
        "models.py",
        mgno_periodic,
        idle=("torchinfo", "utilities3"),
        apart="On the way to finer grids theirs continues fields by zero, ours periodically; theirs adds the input to the output.",
    ),
    "LSM": Case(
        "thuml/Latent-Spectral-Models",
        "models/LSM_2D.py",
        lsm,
        apart=(
            "The spectral blocks are the same, the trunk is not: on the way up ours keeps the full width of every grid, theirs half of it; "
            "ours has ways around its stencils, group normalisation and GELU, theirs batch normalisation and ReLU."
        ),
    ),
    "SineNet": Case("divelab/AIRS", "OpenPDE/SineNet/pdearena/pdearena/modules/sinenet_dual.py", sinenet, same=True),
    "scOT": Case("camlab-ethz/poseidon", "scOT/model.py", poseidon, same=True, package="transformers==4.29.2"),
}
