"""A file -> an upright RGB image, or an ImageError that says what is wrong with it."""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from PIL import Image, ImageFile, UnidentifiedImageError

from lrpcli.errors import ImageError
from lrpcli.images.convert import to_rgb, upright
from lrpcli.images.formats import DEFAULT_FORMATS, DamagedError, DecodePolicy
from lrpcli.images.jpeg import find_damage
from lrpcli.images.pillow_settings import pillow_settings
from lrpcli.images.png import SIGNATURE, needed_chunks, require_whole
from lrpcli.images.streams import most_bytes, read_bounded
from lrpcli.images.unsupported import misread_layout, unsupported_layout
from lrpcli.paths import kind_of

__all__ = ["DEFAULT_FORMATS", "DEFAULT_POLICY", "DecodePolicy", "decode", "decode_opened"]

DEFAULT_POLICY = DecodePolicy()
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Convert(Protocol[T_co]):
    """Makes something of a loaded, upright picture; `what` names it in errors, see to_rgb for `raw_mode`."""

    def __call__(self, image: Image.Image, what: str, raw_mode: str | None = None) -> T_co: ...


def decode(
    source: str | Path | BinaryIO, policy: DecodePolicy = DEFAULT_POLICY, what: str = "The image on standard input"
) -> Image.Image:
    """The first frame of a picture, upright, in mode RGB; `source` is a path, or a stream that errors call `what`.

    Raises ImageError of the kind io (missing, unreadable, not a regular file), decode (empty, broken, truncated, of a
    format that is not allowed), unsupported (pixels without a conversion rule) or too_large. Pillow's warnings
    about a picture are dropped. Decodes under different policies in one process wait for each other.
    """
    what = f"The image {str(source)!r}" if isinstance(source, (str, Path)) else what
    return decode_as(to_rgb, source, policy, what)


def decode_as(convert: Convert[T], source: str | Path | BinaryIO, policy: DecodePolicy, what: str) -> T:
    """What `convert` makes of a picture, in place of an RGB image; `what` names it in errors. See decode."""
    with _opened(source, what, policy) as stream, pillow_settings(policy):
        try:
            return _decoded(convert, stream, policy, what)
        except ImageError:
            raise
        except Exception as error:  # Pillow's decoders raise nearly anything on broken data
            raise _unsupported(error, what, policy, stream) or _failure(error, what, policy) from error


def decode_opened(image: Image.Image, policy: DecodePolicy, what: str) -> Image.Image:
    """A picture that Pillow has opened, or that a program has made, by the rules of decode: upright, in mode RGB.

    Damage is found where Pillow finds it; `what` names the picture in errors, which are those of decode. The picture
    itself stays as it is, but for being loaded.
    """
    info = dict(image.info)
    with pillow_settings(policy):
        try:
            _check_size(image, policy, what)
            layout = misread_layout(image)
            if layout is not None:
                raise _no_rule(what, layout)
            raw_mode = _raw_mode(image) if isinstance(image, ImageFile.ImageFile) else None
            image.load()
            return to_rgb(upright(image), what, raw_mode)
        except ImageError:
            raise
        except Exception as error:  # as in decode_as
            raise _failure(error, what, policy) from error
        finally:
            image.info = info


def _decoded(convert: Convert[T], stream: BinaryIO, policy: DecodePolicy, what: str) -> T:
    start = stream.read(len(SIGNATURE))
    if not start:
        raise ImageError("decode", f"{what} is empty (0 bytes).")
    stream.seek(0)
    strict = policy.truncated == "refuse"
    if start == SIGNATURE:
        stream = needed_chunks(stream)
    formats = [*policy.formats, *(["DIB"] if "BMP" in policy.formats else [])]  # a BMP without its file header
    with Image.open(stream, formats=formats) as image:
        _check_size(image, policy, what)
        layout = misread_layout(image)
        if layout is not None:
            raise _no_rule(what, layout)
        raw_mode = _raw_mode(image)
        if image.format in ("JPEG", "MPO") and strict:
            _load_jpeg(image, stream)
        elif image.format == "PNG" and strict:
            require_whole(stream)
        image.load()
        return convert(upright(image), what, raw_mode)


def _load_jpeg(image: ImageFile.ImageFile, stream: BinaryIO) -> None:
    """Loads it if libjpeg finds nothing wrong with it."""
    stream.seek(0)
    content = stream.read()
    # In one piece, so that Pillow reads it to its end, and fails where libjpeg would.
    image.decodermaxblock = max(image.decodermaxblock, len(content))
    image.load()
    damage = find_damage(content)
    if damage is not None:
        raise DamagedError(f"libjpeg says: {damage}")


def _check_size(image: Image.Image, policy: DecodePolicy, what: str) -> None:
    if image.width * image.height > policy.max_pixels:
        raise ImageError(
            "too_large",
            f"{what} has {image.width} x {image.height} pixels, more than the {policy.max_pixels} that are allowed. "
            "If it is to be trusted, raise --max-pixels.",
        )


def _raw_mode(image: ImageFile.ImageFile) -> str | None:
    """How Pillow calls the layout of a PNG's pixels; known only until they are loaded."""
    if image.format != "PNG" or not image.tile:
        return None
    layout = image.tile[0].args
    return layout if isinstance(layout, str) else None


def _unsupported(error: Exception, what: str, policy: DecodePolicy, stream: BinaryIO) -> ImageError | None:
    """The error of a picture that may be whole, but is stored in a way for which there is no rule; None for others."""
    if isinstance(error, (DamagedError, MemoryError)):
        return None
    layout = unsupported_layout(stream, policy.formats, opened=not isinstance(error, UnidentifiedImageError))
    if layout is None and str(error).lower().startswith("unsupported"):
        layout = f"what its decoder calls {str(error).rstrip('.')!r}"
    return None if layout is None else _no_rule(what, layout)


def _no_rule(what: str, layout: str) -> ImageError:
    return ImageError(
        "unsupported", f"{what} holds {layout}, for which there is no rule. Convert it to RGB of 8 bits per channel."
    )


def _failure(error: Exception, what: str, policy: DecodePolicy) -> ImageError:
    if isinstance(error, DamagedError):
        return ImageError(
            "decode", f"{what} is damaged: {str(error).rstrip('.')}. To decode what is there, use --truncated accept."
        )
    if isinstance(error, Image.DecompressionBombError):
        return ImageError(
            "too_large",
            f"{what} has more than twice the {policy.max_pixels} pixels that are allowed. "
            "If it is to be trusted, raise --max-pixels.",
        )
    if isinstance(error, MemoryError):
        return ImageError("too_large", f"{what} needs more memory than there is.")
    if isinstance(error, UnidentifiedImageError):
        return ImageError(
            "decode",
            f"{what} is not a picture in one of the formats {', '.join(policy.formats)}, or its header is broken.",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return ImageError("io", f"{what} cannot be read: {error.strerror}.")
    reason = str(error).strip().rstrip(".") or type(error).__name__
    hint = " To decode what is there, use --truncated accept." if "truncated" in reason.lower() else ""
    return ImageError("decode", f"{what} cannot be decoded: {reason}.{hint}")


@contextmanager
def _opened(source: str | Path | BinaryIO, what: str, policy: DecodePolicy) -> Iterator[BinaryIO]:
    """A seekable stream at its start. Paths that are no regular files are refused before they are opened."""
    if not isinstance(source, (str, Path)):
        yield io.BytesIO(read_bounded(source, what, most_bytes(policy.max_pixels)))
        return
    try:
        _check_regular(Path(source).stat(), source, what)
        # Should something else have taken its place since: opening a pipe must not wait for a writer.
        descriptor = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise ImageError("io", f"{what} does not exist.") from error
    except OSError as error:
        raise ImageError("io", f"{what} cannot be opened: {error.strerror}.") from error
    except ValueError as error:  # a NUL in the path
        raise ImageError("io", f"{what} cannot exist: {error}.") from error
    with os.fdopen(descriptor, "rb") as stream:
        _check_regular(os.fstat(descriptor), source, what)
        yield stream


def _check_regular(status: os.stat_result, source: str | Path, what: str) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    if stat.S_ISDIR(status.st_mode):
        listed = os.access(source, os.R_OK | os.X_OK)
        raise ImageError("io", f"{what} is a folder{'' if listed else ' that may not be listed'}, not a file.")
    advice = "give a regular file, or its content as standard input (-)"
    raise ImageError("io", f"{what} is {kind_of(status.st_mode)} and is not opened; {advice}.")
