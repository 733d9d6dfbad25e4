"""Pillow's own test images and PngSuite in one run with --all-files, against the lists of what decodes.

By hand: python -m tests.resilience.corpora PILLOW/Tests/images
"""

import collections
import json
import os
import resource
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from tests.resilience.runs import command, environment, require_whole
from tests.shared import SHARED

OWN_RULES = {
    "floating-point": "holds floating-point pixels",
    "beyond 16 bits": "holds whole numbers beyond 16 bits",
    "no rule": "for which there is no rule",
}
"""Pictures that Pillow decodes and this project refuses, by what the message says."""


def expected():
    """Relative path in the input folder -> "ok" or Pillow's error."""
    lists = {"pillow": "pillow_expected.jsonl", "png": "pngsuite_expected.jsonl"}
    for folder, name in lists.items():
        for line in (SHARED / "data" / name).read_text().splitlines():
            row = json.loads(line)
            yield f"{folder}/{row['path']}", row


def run(folder, out, options):
    """Runs over the folder; exit code, rows, standard error, seconds, and the largest memory of a process in MB."""
    began = time.monotonic()
    line = command("explain", *options, folder, out, "--all-files", "--json", "--timeout", "30")
    with Path(out + ".json").open("wb") as stdout, Path(out + ".err").open("wb") as stderr:
        pid = os.posix_spawn(sys.executable, line, environment(), file_actions=[
            (os.POSIX_SPAWN_DUP2, stdout.fileno(), 1), (os.POSIX_SPAWN_DUP2, stderr.fileno(), 2)])  # fmt: skip
        _, status, usage = os.wait4(pid, 0)
    rows = [json.loads(line) for line in Path(out + ".json").read_bytes().splitlines()]
    return os.waitstatus_to_exitcode(status), rows, Path(out + ".err").read_bytes(), time.monotonic() - began, usage


def main(pillow):
    from tests.resilience.runs import TINY_OPTIONS

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "in")
        folder.mkdir()
        (folder / "pillow").symlink_to(Path(pillow).resolve(), target_is_directory=True)
        with tarfile.open(SHARED / "data" / "pngsuite.tar") as archive:
            archive.extractall(temporary, filter="data")
        (folder / "png").symlink_to(Path(temporary, "pngsuite", "png"), target_is_directory=True)
        code, rows, errors, seconds, usage = run(str(folder), temporary + "/out", (*TINY_OPTIONS, "--follow"))
        *images, summary = rows
        found = {os.path.relpath(_path(row["input"]), folder): row for row in images}
        wanted = dict(expected())
        known = {path: row for path, row in wanted.items() if path in found}
        ours, wrong = collections.defaultdict(list), []
        for path, row in known.items():
            got = found[path]
            message = got.get("error", {}).get("message", "")
            if (got["status"] == "ok") == (row["status"] == "ok"):
                continue
            rule = next((name for name, text in OWN_RULES.items() if text in message), None)
            (ours[rule].append(path) if rule else wrong.append((path, row, got.get("error", got["status"]))))
        require_whole(temporary + "/out")
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        print("exit", code, "images", len(images), "in", round(seconds, 1), "s; peak memory of the run",
              usage.ru_maxrss // 1024, "MB, of any process", children.ru_maxrss // 1024, "MB")  # fmt: skip
        print("summary", summary)
        print("on the lists", len(wanted), "here", len(known), "not here",
              sorted(set(wanted) - set(found)), "not on the lists", sorted(set(found) - set(wanted)))  # fmt: skip
        print("as the lists say but for our own rules:", {name: sorted(paths) for name, paths in ours.items()})
        print("otherwise:", wrong)
        print("traceback:", b"Traceback" in errors, "lines on stderr:", len(errors.splitlines()),
              "of failures:", summary["failed"])  # fmt: skip
        print("every picture and map opens; nothing temporary is left")


def _path(value):
    import base64

    return value if isinstance(value, str) else os.fsdecode(base64.b64decode(value["bytes"]))


if __name__ == "__main__":
    main(sys.argv[1])
