"""Pillow's process-wide switches, set for as long as images are decoded and put back afterwards."""

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

from PIL import Image, ImageFile

from lrpcli.images.formats import DecodePolicy

# As warnings.filterwarnings writes it: warnings that Pillow's own modules raise (broken EXIF, invalid APNG, ...).
_IGNORE_PILLOW = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


class _Settings:
    """Decodes of one policy run side by side; those of another wait until the process is free of the first.

    Pillow keeps the pixel limit and the treatment of truncated files in module globals, and Python its warning
    filters: per-thread values do not exist. Code outside this package that uses Pillow meanwhile sees the policy too.
    """

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._users = 0
        self._held: tuple[int, bool] | None = None
        self._before: tuple[int | None, bool] = (None, False)

    @contextmanager
    def held(self, policy: DecodePolicy) -> Iterator[None]:
        wanted = (policy.max_pixels, policy.truncated == "accept")
        with self._free:
            self._free.wait_for(lambda: self._users == 0 or self._held == wanted)
            if self._users == 0:
                self._set(wanted)
            self._users += 1
        try:
            yield
        finally:
            with self._free:
                self._users -= 1
                if self._users == 0:
                    self._restore()
                    self._free.notify_all()

    def _set(self, wanted: tuple[int, bool]) -> None:
        self._held = wanted
        self._before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = wanted
        cast("list[Any]", warnings.filters).insert(0, _IGNORE_PILLOW)

    def _restore(self) -> None:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = self._before
        # Someone else's catch_warnings may have put back an older list.
        with suppress(ValueError):
            cast("list[Any]", warnings.filters).remove(_IGNORE_PILLOW)


_SETTINGS = _Settings()
pillow_settings = _SETTINGS.held
