"""Weights of named models: where they lie, fetching them once, and checking them against their hash."""

import hashlib
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from lrpcli.errors import WeightsError
from lrpcli.models.zoo.registry import PACKAGE, NamedModel

NO = ("", "0", "false", "no", "off")


def cache_folder() -> Path:
    """Where fetched weights lie: LRP_CACHE_DIR, or else this user's cache folder of the platform."""
    chosen = os.environ.get("LRP_CACHE_DIR")
    if chosen:
        return Path(chosen)
    import platformdirs

    return platformdirs.user_cache_path("lrpcli", appauthor=False) / "models"


def is_offline() -> bool:
    """Whether LRP_OFFLINE forbids the network."""
    return os.environ.get("LRP_OFFLINE", "").strip().lower() not in NO


def weights_path(model: NamedModel) -> Path:
    """Where the weights of a model lie, or would lie once fetched. WeightsError if it has none that can be had."""
    if model.bundled:
        return PACKAGE / "bundled" / f"{model.name}.safetensors"
    if model.url is None:
        raise WeightsError(
            f"There is no official weights file for {model.name!r}. Give your own: --weights FILE on the command "
            "line, weights= in Python."
        )
    return cache_folder() / Path(urlsplit(model.url).path).name


def state(model: NamedModel) -> str:
    """In a word or two for lists: bundled, missing, cached, not fetched, or own file. Looks, but computes no hash."""
    if model.bundled:
        return "bundled" if weights_path(model).is_file() else "missing"
    if model.url is None or model.hash is None:
        return "own file"
    return "cached" if weights_path(model).is_file() else "not fetched"


def verify(model: NamedModel) -> str:
    """Like state, but a file whose hash is known is read and found "ok" or of the "wrong hash"."""
    found = state(model)
    if found not in ("bundled", "cached") or model.hash is None:
        return found
    return "ok" if has_hash(weights_path(model), model.hash) else "wrong hash"


def has_hash(path: Path, known: str) -> bool:
    """Whether a file has the hash "algorithm:hexadecimal digits"."""
    algorithm, _, digits = known.partition(":")
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest() == digits


def fetch(model: NamedModel, *, progress: bool = True) -> Path:
    """The weights file of a model, downloaded if it is not there yet or not intact.

    A file is only ever returned with the right hash; one that arrives with another is not kept. The progress bar goes
    to stderr, and only to a terminal. Raises WeightsError that says what to do if the file cannot be had.
    """
    path = weights_path(model)
    if model.bundled:
        if not path.is_file():
            raise WeightsError(f"The weights of {model.name!r} belong to the package but {str(path)!r} is missing. "
                               "Install the package again.")  # fmt: skip
        return path
    if model.hash is None:
        raise WeightsError(
            f"No hash is known for the weights of {model.name!r}, so a download could not be verified and is not made. "
            f"Fetch {model.url} yourself, over a connection you trust, and give --weights FILE."
        )
    try:
        if path.is_file() and has_hash(path, model.hash):
            return path
    except OSError as error:
        raise WeightsError(f"The weights {str(path)!r} cannot be read ({error.strerror}). {_advice(model)}") from error
    if is_offline():
        problem = "have the wrong hash" if path.exists() else "are not in the cache"
        raise WeightsError(
            f"The weights of {model.name!r} {problem} ({path}), and LRP_OFFLINE forbids to fetch them. "
            f"Unset it, or fetch {model.url} elsewhere and give --weights FILE."
        )
    _download(model, path, progress and sys.stderr.isatty())
    return path


def _download(model: NamedModel, path: Path, progress: bool) -> None:
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(progressbar=progress)
    try:
        pooch.retrieve(model.url, model.hash, fname=path.name, path=path.parent, downloader=downloader)
        # The temporary file that it was is for this user alone, but a cache folder may be shared.
        path.chmod(0o644)
    except requests.RequestException as error:
        reason = f"{model.url} could not be fetched: {_reason(error)}"
    except ValueError:
        reason = f"what came from {model.url} has the wrong hash (expected is {model.hash}) and was not kept"
    except OSError as error:
        folder = str(path.parent)
        raise WeightsError(
            f"The weights of {model.name!r} cannot be stored in {folder!r} ({error.strerror or error}). "
            "Choose another folder with LRP_CACHE_DIR."
        ) from error
    else:
        return
    raise WeightsError(f"The weights of {model.name!r} cannot be had: {reason}. {_advice(model)}")


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answers {response.status_code} {response.reason}"
    return type(error).__name__ + {
        "ChunkedEncodingError": " (the transfer was cut off)",
        "ConnectionError": " (no connection to the server)",
    }.get(type(error).__name__, "")


def _advice(model: NamedModel) -> str:
    return (
        f"Try again later, or fetch the file elsewhere and give --weights FILE; `lrp models path {model.name}` says "
        "where it would be cached."
    )
