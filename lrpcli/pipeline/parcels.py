"""What a decoding process answers: objects in a message, and their large parts right behind it, copied once a side."""

import copyreg
import os
import pickle
from collections.abc import Callable
from functools import partial
from io import BytesIO
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image


def packed(value: Any) -> tuple[bytes, list[memoryview]]:
    """The message of a value, and its large parts. Raises what pickle raises.

    A picture is sent as its pixels alone: without a palette, or what its file says of it.
    """
    from PIL import Image

    message, parts = BytesIO(), list[pickle.PickleBuffer]()
    pickler = pickle.Pickler(message, pickle.HIGHEST_PROTOCOL, buffer_callback=parts.append)
    pickler.dispatch_table = copyreg.dispatch_table | {Image.Image: _as_pixels}
    pickler.dump(value)
    return message.getvalue(), [part.raw() for part in parts]


def _as_pixels(picture: "Image.Image") -> tuple[Any, ...]:
    return _picture, (picture.mode, picture.size, pickle.PickleBuffer(picture.tobytes()))


def _picture(mode: str, size: tuple[int, int], pixels: bytearray) -> "Image.Image":
    from PIL import Image

    return Image.frombytes(mode, size, pixels)


def send(connection: Connection, message: bytes, parts: list[memoryview]) -> None:
    """Writes what `packed` made. OSError if the other end is gone."""
    connection.send_bytes(pickle.dumps((message, [part.nbytes for part in parts])))
    for part in parts:
        _each(partial(os.write, connection.fileno()), part)


def receive(connection: Connection) -> Any:
    """The value that was sent. EOFError or OSError if the other end is gone; MemoryError if there is no room for it."""
    message, sizes = pickle.loads(connection.recv_bytes())
    parts = [bytearray(size) for size in sizes]
    for part in parts:
        _each(partial(_read, connection.fileno()), memoryview(part))
    return pickle.loads(message, buffers=parts)


def _read(descriptor: int, part: memoryview) -> int:
    return os.readv(descriptor, [part])


def _each(move: Callable[[memoryview], int], part: memoryview) -> None:
    """Moves all of a part, however much goes at once."""
    while part:
        moved = move(part)
        if not moved:
            raise EOFError
        part = part[moved:]
