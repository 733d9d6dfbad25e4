"""Everything that can go wrong, in one tree. A message is a whole sentence that names the thing and says what to do.

LrpError                     exit 2 unless a subclass says otherwise
+-- UsageError               an option or input that cannot be used
+-- ConfigError              a composite that cannot be read or does not fit the model
+-- ModelError               a model file, architecture or label file that cannot be used
|   +-- UnsupportedLayer     a layer without a relevance rule or without an importer
+-- StoppedError             exit 3: something outside any one image
|   +-- WeightsError         weights missing, unreachable or of the wrong hash
|   +-- OutputError          the output folder cannot be written, the disk is full
|   +-- DeviceError          the device was lost
+-- MissingMap               a key that open_maps has no map for; a KeyError too
+-- ImageError               exit 1: one image failed; the others go on
"""

from collections.abc import Iterable
from difflib import get_close_matches


class LrpError(Exception):
    """Base of every error that this package raises on purpose; `exit_code` is what the command line ends with.

    >>> import lrpcli
    >>> try:
    ...     lrpcli.load_composite("epsilom")
    ... except lrpcli.LrpError as error:
    ...     print(f"exit {error.exit_code}, {type(error).__name__}: {str(error).partition('?')[0]}?")
    exit 2, ConfigError: There is no config named 'epsilom'. Did you mean 'epsilon'?
    """

    exit_code = 2


class UsageError(LrpError):
    """An option or input cannot be used; nothing was computed."""


class ConfigError(LrpError):
    """A composite cannot be read, or does not fit the model."""


class ModelError(LrpError):
    """A model file, an architecture or a label file cannot be used."""


class UnsupportedLayer(ModelError):
    """A layer has no relevance rule or no importer; the message names it, its type and what to do."""


class StoppedError(LrpError):
    """Something outside any one image stopped the run."""

    exit_code = 3


class WeightsError(StoppedError):
    """Weights are missing, cannot be fetched, or have the wrong hash."""


class OutputError(StoppedError):
    """The output folder cannot be written to, or the disk is full."""


class DeviceError(StoppedError):
    """The device was lost, or has too little memory even for one image."""


class MissingMap(LrpError, KeyError):
    """There is no map for a key; the message says why."""

    def __str__(self) -> str:  # a KeyError would show the message in quotes
        return Exception.__str__(self)


class ImageError(LrpError):
    """One image failed. `kind` is decode, unsupported, too_large, io, timeout, crashed, compute or clash."""

    exit_code = 1

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        # The base class would be made again from the message alone, and fail on its way between processes.
        return type(self), (self.kind, str(self))


def needs_package(what: str, package: str, extra: str) -> ModelError:
    """The error of something that a missing package reads.

    >>> from lrpcli.errors import needs_package
    >>> print(needs_package("'net.onnx'", "onnx", "onnx"))
    'net.onnx' needs the package onnx, which is missing. Install it with: pip install 'lrpcli[onnx]'.
    """
    return ModelError(
        f"{what} needs the package {package}, which is missing. Install it with: pip install 'lrpcli[{extra}]'."
    )


def suggestion(word: str, known: Iterable[str]) -> str:
    """ " Did you mean ...?" for a misspelt word, to put behind a message; nothing if no known word is close."""
    close = get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def require_one_of(option: str, value: str, known: tuple[str, ...], *others: str) -> None:
    """UsageError if an option's value is none of the known ones; `others` are choices that the message names too."""
    if value not in known:
        choices = ", ".join((*known, *others))
        raise UsageError(f"--{option} {value!r} is not known.{suggestion(value, known)} Choose one of {choices}.")
