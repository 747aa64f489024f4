"""What can go wrong, by name. Every message says what was found, what was expected, and what to do."""

from __future__ import annotations


class SlipstreamError(Exception):
    """Root of every error that slipstream raises on purpose."""


class ShapeError(SlipstreamError, ValueError):
    """A tensor, grid or channel list does not have the shape that was asked for."""


class InputError(SlipstreamError, ValueError):
    """A value, unit, parameter or file content is outside what is accepted."""


class UnstableStep(SlipstreamError, ArithmeticError):
    """A state left finite numbers, or a time step exceeds what the scheme can carry."""


class DivergedTraining(SlipstreamError, ArithmeticError):
    """The loss left finite numbers or grew beyond recovery; the last good state is kept."""


class LostRun(SlipstreamError, RuntimeError):
    """A run of a live ensemble was lost again and again; the message says which one and why."""


class StoreError(SlipstreamError, OSError):
    """A file or store is locked, truncated, unwritable, or of a version this release does not know."""


class ForeignCode(SlipstreamError, PermissionError):
    """A recipe or model file names a class outside the packages that the caller allows."""


class MissingExtra(SlipstreamError, ImportError):
    """An optional dependency is needed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'slipstream[{extra}]'"
        )
