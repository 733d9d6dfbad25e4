"""Watches what this process asks of the world: files that are read or written elsewhere, programs, the network."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect",
             "socket.getaddrinfo", "pickle.find_class", "urllib.Request")  # fmt: skip
UNWATCHED = ("evaluation",)
"""Targets that run whole commands, which start processes."""
CHANGES = {"os.remove": 1, "os.rename": 2, "os.mkdir": 1, "os.rmdir": 1, "os.chmod": 1, "os.link": 2, "os.symlink": 2,
           "os.truncate": 1, "os.utime": 1}  # fmt: skip
"""Audit events, and how many of their arguments are paths."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """What was done outside of `folder` while `watching`, once this process has imported all that it needs.

    Files may be read where Python, its packages and the project are. A hook stays as long as the process: make one.
    """

    def __init__(self, folder: Path, *readable: Path) -> None:
        self.folder, self.seen = str(folder.resolve()), list[str]()
        places = (*sys.path, sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev", "/usr", *map(str, readable))
        self.readable = tuple({os.path.realpath(place) for place in places if place})
        self._on = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self._on:
            return
        if event in FORBIDDEN:
            self.seen.append(f"{event} {arguments!r:.300}")
        elif event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes)):
                self._look(event, path, writes=isinstance(flags, int) and bool(flags & WRITING))
        elif event in CHANGES:
            for path in arguments[: CHANGES[event]]:
                if isinstance(path, (str, bytes, os.PathLike)):
                    self._look(event, path, writes=True)

    def _look(self, event: str, path: "str | bytes | os.PathLike[str]", *, writes: bool) -> None:
        """A path that is relative is taken from the folder, where the process works, or from one below that."""
        self._on = False
        try:
            found = os.path.realpath(Path(self.folder, os.fsdecode(path)))
        except ValueError:  # holds a NUL, so that nothing comes of it
            return
        finally:
            self._on = True
        allowed = (self.folder,) if writes else (self.folder, *self.readable)
        if found != os.devnull and not any(found == place or found.startswith(place + "/") for place in allowed):
            self.seen.append(f"{event} {found!r}{' to write' if writes else ''}")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """AssertionError at the end if anything was done outside."""
        self.seen.clear()
        self._on = True
        try:
            yield
        finally:
            self._on = False
        assert not self.seen, self.seen
