"""Coverage-guided fuzzing of what reads a kind of file, by atheris (libFuzzer): pip install --group fuzz.

    python -m tests.fuzz TARGET --folder DIR [--cpu-seconds 3600]

Inputs that reach new code are kept in DIR/TARGET/corpus, so that a run goes on where the last one ended. An input that
breaks a promise lies in DIR/TARGET/findings, named after what was raised, with the traceback beside it; the run goes
on. So does one that takes over 20 CPU seconds. One that ends the process or hangs lies there as crash-*, oom-* or
timeout-*, and the run ends with an exit status other than 0. DIR/TARGET/time.json has the CPU seconds and the inputs of
all runs, and how many of those were read.
"""

import argparse
import hashlib
import json
import os
import random
import re
import resource
import sys
import tempfile
import time
import traceback
from contextlib import nullcontext
from pathlib import Path

import atheris

INSTRUMENTED = ["lrpcli", "tomllib"]
with atheris.instrument_imports(include=INSTRUMENTED):
    from lrpcli.errors import LrpError
    from tests.fuzz import structure
    from tests.fuzz.dictionary import words
    from tests.fuzz.outside import UNWATCHED, Watch
    from tests.resilience.mutations import ADDRESS_SPACE, KINDS, SECONDS, TARGETS

MEMORY = "/dev/shm"
"""Where the file that is read lies, if there is such a file system: in memory."""
HUNG = 600
"""Seconds of the clock after which an input hangs; where the machine has other work, SECONDS of CPU time take long."""
KEPT = 64
"""Inputs that could be read, of which others are made."""


class Fuzzed:
    """A target while it is fuzzed: its files in a folder, what it has cost, and what was found."""

    def __init__(self, name: str, home: Path, cpu_seconds: float) -> None:
        self.target, self.name, self.home, self.cpu_seconds = TARGETS[name], name, home, cpu_seconds
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=MEMORY if Path(MEMORY).is_dir() else None))
        tempfile.tempdir = str(self.folder)
        os.chdir(self.folder)
        self.samples = self.target.samples(self.folder)
        self.good = list(self.samples)
        self.path = self.folder / f"fuzzed{self.target.suffix}"
        for place in ("corpus", "findings"):
            (home / place).mkdir(parents=True, exist_ok=True)
        for sample in self.samples:
            (home / "corpus" / hashlib.sha1(sample).hexdigest()).write_bytes(sample)
        self.inputs, self.read, self.before = 0, 0, self._read_time()
        self.begun, self.noted = _cpu(), time.monotonic()
        self.path.write_bytes(self.samples[0])
        self.target.read(self.path)  # imports what it needs
        self.watch = Watch(self.folder)
        self.memory = _addresses() + ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (self.memory, self.memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def _read_time(self) -> dict[str, float]:
        try:
            return json.loads((self.home / "time.json").read_text())
        except FileNotFoundError:
            return {"cpu_seconds": 0.0, "inputs": 0, "read": 0}

    def one(self, data: bytes) -> None:
        """Has an input read; what breaks a promise is written down."""
        self.inputs += 1
        self.path.write_bytes(data)
        begun = time.process_time()
        try:
            with nullcontext() if self.name in UNWATCHED else self.watch.watching():
                self.target.read(self.path)
            self._read(data)
        except LrpError as error:
            if not str(error).strip() or "Traceback" in str(error):
                self._keep(data, error)
        except BaseException as error:
            self._keep(data, error)
        if time.process_time() - begun > SECONDS:
            self._keep(data, TimeoutError(f"{time.process_time() - begun:.0f} CPU seconds"))
        if time.monotonic() - self.noted > 15:
            self.noted = time.monotonic()
            self._note_time()

    def _read(self, data: bytes) -> None:
        """Remembers some of what could be read: others are made of it."""
        self.read += 1
        if data and len(self.good) < KEPT:
            self.good.append(data)
        elif data and self.read % 4 == 0:
            self.good[len(self.samples) + self.read // 4 % (KEPT - len(self.samples))] = data

    def _keep(self, data: bytes, error: BaseException) -> None:
        """Once for each place that raises it."""
        frames = [f"{frame.filename}:{frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
        text = re.sub(r"\d+", "0", str(error))[:60] if isinstance(error, AssertionError) else ""
        name = hashlib.sha1(repr((type(error).__name__, frames, text)).encode()).hexdigest()[:12]
        kept = self.home / "findings" / f"{type(error).__name__}-{name}"
        if not kept.exists():
            kept.write_bytes(data)
            kept.with_suffix(".txt").write_text("".join(traceback.format_exception(error)))
            print(f"found {kept}", file=sys.stderr, flush=True)

    def _note_time(self) -> None:
        spent = _cpu() - self.begun
        added = {"cpu_seconds": round(spent, 1), "inputs": self.inputs, "read": self.read}
        noted = {name: self.before[name] + value for name, value in added.items()}
        (self.home / "time.new").write_text(json.dumps(noted))
        (self.home / "time.new").replace(self.home / "time.json")
        if noted["cpu_seconds"] >= self.cpu_seconds:
            os._exit(0)  # libFuzzer has written down every input that it keeps

    def mutate(self, data: bytes, most: int, seed: int) -> bytes:
        """A changed input: by libFuzzer, which knows what led to new code, by damage to text or to messages."""
        chance = random.Random(seed)
        if chance.random() < 0.4:  # most of what libFuzzer keeps is refused early
            data = chance.choice(self.good)
        other = chance.choice(self.good)

        def more(part: bytes) -> bytes:
            return chance.choice(KINDS)(chance, part, other)

        for _ in range(chance.choice([1, 1, 1, 2, 4])):
            sort = chance.random()
            changed = structure.damaged(self.name, chance, data, other, more) if sort < 0.7 else None
            if changed is None:
                changed = atheris.Mutate(data, most) if sort < 0.85 or not data else more(data)
            data = changed[:most]
        return data


def _cpu() -> float:
    """CPU seconds of this process and those that it has ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _addresses() -> int:
    """Bytes of addresses that this process has: with torch alone they are over four GiB."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", choices=list(TARGETS))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--cpu-seconds", type=float, default=3600.0)
    chosen = parser.parse_args()
    home = chosen.folder.resolve() / chosen.target.replace(" ", "-")
    sys.dont_write_bytecode = True
    with atheris.instrument_imports(include=INSTRUMENTED):  # much is imported when it is first needed
        try:
            fuzz(Fuzzed(chosen.target, home, chosen.cpu_seconds))
        except BaseException:  # its threads may wait for ever, where it has no memory left
            traceback.print_exc()
            os._exit(1)


def fuzz(fuzzed: Fuzzed) -> None:
    """Hands the process over to libFuzzer, which ends it."""
    home = fuzzed.home
    dictionary = home / "words.dict"
    dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in words(fuzzed.name)))
    options = {
        "max_len": max(4096, 2 * max(map(len, fuzzed.samples))), "timeout": HUNG,
        "rss_limit_mb": fuzzed.memory >> 20,
        "dict": dictionary, "artifact_prefix": f"{home / 'findings'}/", "mutate_depth": 2, "len_control": 0,
    }  # fmt: skip
    line = [sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(home / "corpus")]
    atheris.Setup(line, fuzzed.one, custom_mutator=fuzzed.mutate)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main()
