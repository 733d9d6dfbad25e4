"""A CPU-hour of fuzzing for every sort of file, two at a time; what is stopped goes on where it was.

    python -m tests.fuzz.campaign --folder DIR [--cpu-seconds 3600] [--together 2] [--status]

The targets take turns of ten minutes, those that have had the smallest part of their time first. Ctrl-C or SIGTERM ends
it; the same command goes on. DIR/log.txt has a line for every turn, DIR/<target>/ what tests.fuzz writes there.
"""

import argparse
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.resilience.runs import ROOT, environment

GROUPS = {
    "prototxt": ("prototxt",),
    "caffemodel": ("caffemodel",),
    "HDF5": ("hdf5",),
    "ONNX": ("onnx",),
    "safetensors": ("safetensors",),
    "TOML": ("config", "settings"),
    "journals": ("journal", "shard", "packed", "description", "comparison", "measurement"),
    "lists": ("list", "labels", "boxes", "mask"),
    "others": ("mean", "repository"),
}
"""Sorts of files and their targets, which share the time of the sort."""
TURN = 600.0
VAIN = 5
"""Turns in a row that may end without having come anywhere: then something else than an input is wrong."""


class Campaign:
    """What is left to do in a folder, and who does it."""

    def __init__(self, folder: Path, cpu_seconds: float) -> None:
        self.folder = folder
        self.shares = {target: cpu_seconds / len(targets) for targets in GROUPS.values() for target in targets}
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.taken: dict[str, subprocess.Popen[bytes] | None] = {}
        self.vain = dict.fromkeys(self.shares, 0)

    def spent(self, target: str) -> float:
        return float(_time(self.folder / target.replace(" ", "-"))["cpu_seconds"])

    def take(self) -> str | None:
        """The target whose turn it is; None if there is none."""
        with self.lock:
            parts = {target: self.spent(target) / share for target, share in self.shares.items()}
            waiting = [name for name in parts if parts[name] < 1 and name not in self.taken and self.vain[name] < VAIN]
            if self.stopped.is_set() or not waiting:
                return None
            chosen = min(waiting, key=lambda name: parts[name])
            self.taken[chosen] = None
            return chosen

    def work(self) -> None:
        """Turns, until there is nothing left."""
        while (target := self.take()) is not None:
            before = self.spent(target)
            until = min(self.shares[target], before + TURN)
            line = [sys.executable, "-m", "tests.fuzz", target, "--folder", self.folder, "--cpu-seconds", str(until)]
            with (self.folder / f"{target.replace(' ', '-')}.out").open("wb") as output:
                running = subprocess.Popen(line, stdout=output, stderr=output, cwd=ROOT, env=environment())
                self.taken[target] = running
                if self.stopped.is_set():
                    running.terminate()
                code = running.wait()
            spent = self.spent(target)
            self.vain[target] = 0 if code == 0 or spent > before + 1 else self.vain[target] + 1
            with self.lock:
                del self.taken[target]
                self._log(f"{target}: exit {code}, {report(self.folder / target.replace(' ', '-'))}")

    def _log(self, text: str) -> None:
        with (self.folder / "log.txt").open("a") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def stop(self, *_: object) -> None:
        """Ends what runs."""
        self.stopped.set()
        for running in list(self.taken.values()):
            if running is not None:
                running.terminate()


def _time(home: Path) -> dict[str, float]:
    try:
        return dict(json.loads((home / "time.json").read_text()))
    except FileNotFoundError:
        return {"cpu_seconds": 0.0, "inputs": 0, "read": 0}


def report(home: Path) -> str:
    """CPU hours, inputs and findings of a target."""
    noted = _time(home)
    found = [path for path in (home / "findings").glob("*") if path.suffix != ".txt"]
    kept = sum(1 for _ in (home / "corpus").glob("*"))
    hours, inputs, read = noted["cpu_seconds"] / 3600, int(noted["inputs"]), int(noted["read"])
    return (
        f"{hours:.2f} CPU-hours, {inputs:,} inputs, of which {read:,} were read, {kept:,} kept, {len(found)} findings"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.campaign")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--cpu-seconds", type=float, default=3600.0)
    parser.add_argument("--together", type=int, default=2)
    parser.add_argument("--status", action="store_true")
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()
    if not chosen.status:
        folder.mkdir(parents=True, exist_ok=True)
        campaign = Campaign(folder, chosen.cpu_seconds)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, campaign.stop)
        workers = [threading.Thread(target=campaign.work) for _ in range(chosen.together)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    for group, targets in GROUPS.items():
        for target in targets:
            print(f"{group:12} {target:12} {report(folder / target.replace(' ', '-'))}")


if __name__ == "__main__":
    main()
