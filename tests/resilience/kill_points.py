"""SIGKILL at every point at which a run writes, renames or removes something, then a rerun; a sample of pairs too.

A run has a point before each such operation in OUTPUT, one in the midst of each write, and one at its end. Runs are
forks of one process that has loaded everything, and decode in their own process.

By hand: python -m tests.resilience.kill_points [STRIDE [PAIRS]] tries every STRIDE-th point.
"""

import builtins
import collections
import io
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path

from tests.photos import folder_of_photos
from tests.resilience.runs import TINY_OPTIONS, journal, leftovers, lrp, tree

OPERATIONS = ("mkdir", "rename", "replace", "unlink", "remove", "link", "symlink", "write", "truncate", "ftruncate")
"""Functions of os that change what lies in OUTPUT."""
EXPLAIN = ("explain", *TINY_OPTIONS, "-b", "4", "-j", "1", "--json")
PACKED = (*EXPLAIN, "--pack", "tar", "--pack-size", "0.5")
"""So many millions of bytes that the images lie in several tars."""
EVALUATE = ("evaluate", *TINY_OPTIONS, "-b", "8", "-j", "1", "--json", "--region", "16", "--steps", "2",
            "--config", "epsilon")  # fmt: skip


class InlineWorkers:
    """What Workers are, in this process."""

    def __init__(self, count, timeout=None):
        pass

    def submit(self, function, path, *arguments, memory=None):
        future = Future()
        try:
            future.set_result((function(*arguments), ""))
        except Exception as error:
            future.set_exception(error)
        return future

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        pass


class Points:
    """Counts the points of this process in a folder, and kills it at number `last`."""

    def __init__(self, folder, last):
        self.folder, self.last = os.path.realpath(folder), last
        self.count, self.lock = 0, threading.Lock()
        self.plain = {name: getattr(os, name) for name in (*OPERATIONS, "open")}
        self.open = io.open

    def reach(self):
        """A point; True if it is the one at which the caller has to call `die`."""
        with self.lock:
            self.count += 1
            return self.count == self.last

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def pass_by(self):
        if self.reach():
            self.die()

    def watch(self):
        """From now on every operation in the folder is a point."""
        for name in OPERATIONS:
            setattr(os, name, self._watched(name))
        os.open = self._open_descriptor
        io.open = builtins.open = self._open

    def is_ours(self, target):
        if isinstance(target, int):
            target = f"/proc/self/fd/{target}"
        return os.fsdecode(os.path.realpath(target)).startswith(self.folder)

    def _watched(self, name):
        plain = self.plain[name]

        def operation(target, *arguments, **keywords):
            if name == "write" and self.is_ours(target):
                return self.write(lambda data: plain(target, data), *arguments)
            if "dir_fd" in keywords or "src_dir_fd" in keywords or self.is_ours(target):
                self.pass_by()
            return plain(target, *arguments, **keywords)

        return operation

    def _open_descriptor(self, path, flags, *arguments, **keywords):
        if flags & os.O_CREAT and ("dir_fd" in keywords or self.is_ours(path)):
            self.pass_by()
        return self.plain["open"](path, flags, *arguments, **keywords)

    def _open(self, target, mode="r", *arguments, **keywords):
        ours = not set(mode).isdisjoint("wax+") and self.is_ours(target)
        if ours and not isinstance(target, int):
            self.pass_by()
        file = self.open(target, mode, *arguments, **keywords)
        return WatchedFile(file, self) if ours else file

    def write(self, plain, data):
        """A write, of which two points are before it and in its midst."""
        self.pass_by()
        if self.reach():
            plain(data[: len(data) // 2])
            self.die()
        return plain(data)


class WatchedFile:
    """A file of OUTPUT, open for writing."""

    def __init__(self, file, points):
        self._file, self._points = file, points

    def write(self, data):
        return self._points.write(self._write, data)

    def _write(self, data):
        written = self._file.write(data)
        self._file.flush()
        return written

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self._file.close()

    def __iter__(self):
        return iter(self._file)


class Case:
    """A command whose runs are killed: its output folder is `out`, an undisturbed one `calm`."""

    def __init__(self, folder, options, images, journal_name):
        self.folder, self.options, self.journal_name, self.images = folder, options, journal_name, images
        self.source = folder_of_photos(folder / "in", images)
        calm = lrp(*options, self.source, "-o", folder / "calm")  # what is loaded now, all forks have
        assert calm.exit_code == 0, calm.stderr
        self.calm = self.results("calm")

    def results(self, name):
        """What a run has left but for the time it took, which is nowhere but in journals and the index of tars."""
        return {path: content for path, content in tree(self.folder / name).items() if path != "index.parquet"}

    def attempt(self, name, last=None):
        """A run in a fork, killed at a point if it gets there: its exit code or minus the signal, and its points."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            code = 99
            try:
                points = Points(self.folder / name, last)
                points.watch()
                result = lrp(*self.options, self.source, "-o", self.folder / name)
                points.pass_by()
                code = result.exit_code
                points.plain["write"](writer, str(points.count).encode())
            finally:
                os._exit(code)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reader) as answer:
            return os.waitstatus_to_exitcode(status), int(answer.read() or 0)

    def count(self):
        """The points of an undisturbed run."""
        code, points = self.attempt("counted")
        assert code == 0 and self.results("counted") == self.calm
        return points

    def is_torn(self, path, content):
        """Whether a file that a killed run has left is neither temporary nor whole."""
        return not path.endswith(".tmp") and self.calm.get(path) != content

    def faults(self, *kills):
        """What is wrong after runs that were killed at these points and a rerun; and how many were killed."""
        name = "-".join(map(str, ("killed", *kills)))
        killed, torn = 0, []
        for last in kills:
            killed += self.attempt(name, last)[0] == -signal.SIGKILL
            torn += [path for path, content in self.results(name).items() if self.is_torn(path, content)]
        code, _ = self.attempt(name)
        out = self.folder / name
        lines = journal(out, self.journal_name)
        ended = collections.Counter((row["name"], row["status"]) for row in lines if row["type"] == "done")
        found = {
            "torn": bool(torn),
            "exit": code != 0,
            "differs": self.results(name) != self.calm,
            "leftovers": bool(leftovers(out) or list((out / ".lrp").glob("open-*"))),
            "incomplete": len(ended) != self.images,
            "twice": any(times > 1 for times in ended.values()),
            "crashed": any(row.get("error") for row in lines),
        }
        return [fault for fault, is_so in found.items() if is_so], killed


def try_all(case, stride, pairs, seed=0):
    """A table row: the points of a run, how many were tried, how many killed a run, and what was wrong after any."""
    points = case.count()
    generator = random.Random(seed)
    singles = [(point,) for point in range(1 + seed % stride, points + 1, stride)]
    doubles = [(generator.randint(1, points), generator.randint(1, points)) for _ in range(pairs)]
    row = {"points": points, "tried": len(singles), "pairs": pairs, "killed": 0, "faults": {}}
    for kills in itertools.chain(singles, doubles):
        faults, killed = case.faults(*kills)
        row["killed"] += killed
        if faults:
            row["faults"][str(kills)] = faults
    return row


def main(stride=1, pairs=50):
    """Both commands, and packed results; prints a line of JSON for each."""
    import lrpcli.scale.inline

    lrpcli.scale.inline.Workers = InlineWorkers
    with tempfile.TemporaryDirectory() as temporary:
        for name, options, images, journal_name in (
            ("explain", EXPLAIN, 28, "journal-1-of-1.jsonl"),
            ("explain --pack", PACKED, 12, "journal-1-of-1.jsonl"),
            ("evaluate", EVALUATE, 24, "evaluate-1-of-1.jsonl"),
        ):
            folder = Path(temporary, name)
            folder.mkdir()
            print(json.dumps({"command": name, **try_all(Case(folder, options, images, journal_name), stride, pairs)}),
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main(*map(int, sys.argv[1:]))
