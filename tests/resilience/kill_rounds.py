"""Rounds of SIGKILL at random moments, then a rerun. By hand: python -m tests.resilience.kill_rounds 20"""

import collections
import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from lrpcli.records.packed import member_base
from tests.photos import folder_of_photos
from tests.resilience.runs import (
    TINY_OPTIONS,
    command,
    environment,
    explain,
    journal,
    killed,
    leftovers,
    process,
    require_whole,
    rows,
    started,
    tree,
    wait_for,
)

PACKS = ("-b", "1", "-j", "1", "--pack", "tar", "--pack-size", "0.3")
SILENT = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def rounds(folder, count, images, batch="1", seed=0):
    """Kills `count` runs, each at a random moment, runs once more, and compares with a run that was left alone."""
    source, out = folder_of_photos(folder / "in", images), folder / "out"
    undisturbed = explain(source, folder / "calm", "-b", batch)
    assert undisturbed.returncode == 0, undisturbed.stderr
    killings = kill(lambda: started(source, out, "-b", batch), lambda: len(lines_so_far(out)), count, images, seed)
    reruns, result = 0, None
    while result is None or (result.returncode == 1 and reruns < 3):  # one that died alone three times is passed over
        result, reruns = explain(source, out, "-b", batch), reruns + 1
    require_whole(out)
    done = collections.Counter(row["name"] for row in journal(out) if row["type"] == "done" and row["status"] == "ok")
    ours, theirs = tree(out), tree(folder / "calm")
    differing = [name for name in theirs if ours.get(name) != theirs[name]]

    def largest(suffix):
        names = (name for name in differing if name.endswith(suffix))
        return max((difference(ours[name], theirs[name]) for name in names), default=0.0)

    return {
        "killed": killings,
        "reruns": reruns,
        "exit": result.returncode,
        "complete": result.returncode == 0 and ours.keys() == theirs.keys() and len(done) == images,
        "twice": sum(times > 1 for times in done.values()),
        "equal": not differing,
        "differing": len(differing),
        "largest difference of a map": largest(".npy"),
        "of a picture": largest(".png"),
        "files": len(ours),
    }


def evaluation_rounds(folder, count, images, seed=0):
    """The same for `lrp evaluate`: the numbers of a killed and a calm run, in full, and the rows of the last rerun."""
    source, out = folder_of_photos(folder / "in", images), folder / "out"
    options = (*TINY_OPTIONS, "--region", "8", "--steps", "16", "-b", "16", "--config", "epsilon", "--config", "beta-1")

    def evaluate(output):
        return process("evaluate", *options, source, "-o", output, "--json")

    def begin():
        return subprocess.Popen(command("evaluate", *options, source, "-o", out), env=environment(), **SILENT)

    calm = evaluate(folder / "calm")
    assert calm.returncode == 0, calm.stderr
    killings = kill(begin, lambda: len(lines_so_far(out, "evaluate-1-of-1.jsonl")), count, images, seed)
    reruns, result = 0, None
    while result is None or (result.returncode == 1 and reruns < 3):
        result, reruns = evaluate(out), reruns + 1
    numbers, expected = ({key: value for key, value in rows(run)[-1]["results"].items() if key != "settings"}
                         for run in (result, calm))  # fmt: skip
    return {
        "killed": killings,
        "reruns": reruns,
        "exit": result.returncode,
        "rows": len(rows(result)) - 1,
        "equal": numbers == expected,
        "leftovers": len(leftovers(out)),
    }


def pack_rounds(folder, count, images, shards=8, seed=0):
    """Kills `count` of the processes of a packed run, each at a random moment; each killed one is started again."""
    source, out = photos_to_pack(folder, images)

    def begin(shard):
        return started(source, out, *PACKS, "--shard", f"{shard}/{shards}", **SILENT)

    def lines():
        return sum(path.read_bytes().count(b"\n") for path in (out / ".lrp").glob("journal-*"))

    running = {shard: begin(shard) for shard in range(1, shards + 1)}
    generator, killings = random.Random(seed), 0
    for _ in range(count):
        last = lines() + generator.uniform(0, 2 * images / (count + 1))
        while lines() < last and any(process.poll() is None for process in running.values()):
            time.sleep(0.005)
        alive = [shard for shard, process in running.items() if process.poll() is None] or list(running)
        shard = generator.choice(alive)
        killings += running[shard].poll() is None
        killed(running[shard])
        running[shard] = begin(shard)
    ended = {shard: process.wait() for shard, process in running.items()}
    reruns = 0
    while any(ended.values()) and reruns < 4:  # a suspect that died alone three times is passed over once
        ended, reruns = {shard: begin(shard).wait() for shard, code in ended.items() if code}, reruns + 1
    return {"killed": killings, "reruns": reruns, "exit": max(ended.values(), default=0), **packed_state(folder)}


def engine_rounds(folder, count, images, nets_of, *options, seed=0):
    """Kills processes of a packed run whose images others work on: the command, or a net, each at a random moment.

    `nets_of` gives the ids of a command's processes with a net. A command that was killed is started again, with
    another number of --workers.
    """
    source, out = photos_to_pack(folder, images)
    generator, killings, commands = random.Random(seed), collections.Counter(), 0

    def begin():
        workers = ("--workers", str(2 + commands % 2))
        return started(source, out, *PACKS, *options, *workers, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def lines():
        return sum(path.read_bytes().count(b"\n") for path in (out / ".lrp").glob("journal-*"))

    running = begin()
    for _ in range(count):
        last = lines() + generator.uniform(1, 2 * images / (count + 1))
        while lines() < last and running.poll() is None:
            time.sleep(0.005)
        nets = nets_of(running.pid)
        if nets and running.poll() is None and generator.random() < 0.6:
            with contextlib.suppress(ProcessLookupError):
                os.kill(generator.choice(nets), signal.SIGKILL)
                killings["nets"] += 1
            continue
        killings["commands"] += running.poll() is None
        killed(running)
        wait_for(lambda nets=nets, command=running.pid: not set(nets) & set(nets_of(command)))
        commands += 1
        running = begin()
    _, said = running.communicate()
    code, reruns = running.returncode, 0
    while code and reruns < 4:  # what two processes died of is passed over once
        if code != 1:
            print(said.decode(errors="replace"), file=sys.stderr)
        commands += 1
        running, reruns = begin(), reruns + 1
        _, said = running.communicate()
        code = running.returncode
    return {**killings, "reruns": reruns, "exit": code, **packed_state(folder)}


def photos_to_pack(folder, images):
    """The folders of photos, of which `calm` beside them gets the files of a run without packs, and of results."""
    source = folder_of_photos(folder / "in", images)
    calm = explain(source, folder / "calm", "-b", "1")
    assert calm.returncode == 0, calm.stderr
    return source, folder / "out"


def packed_state(folder):
    """What packed runs have left, compared with the files of the calm one."""
    import pyarrow.parquet

    out = folder / "out"
    done = collections.Counter(
        row["name"]
        for path in (out / ".lrp").glob("journal-*.jsonl")
        for row in journal(out, path.name)
        if row["type"] == "done" and row["status"] == "ok"
    )
    found = packed_files(out)
    return {
        "images": len(done),
        "twice": sum(times > 1 for times in done.values()) + len(found) - len(dict(found)),
        "equal": dict(found) == tree(folder / "calm"),
        "open": len([*leftovers(out), *(out / ".lrp").glob("open-*")]),
        "tars": len(list(out.glob("*.tar"))),
        "rows in the index": pyarrow.parquet.read_table(out / "index.parquet").num_rows,
    }


def packed_files(output):
    """What lies in the tars of a folder: the path of each file where it is not packed, and its content."""
    found = []
    for path in sorted(output.glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                folder, slash, name = member.name.rpartition("/")
                key, dot, ending = name.partition(".")
                found.append((member_base(folder + slash + key) + dot + ending, archive.extractfile(member).read()))
    return found


def kill(begin, lines, count, images, seed):
    """Kills `count` runs that `begin` starts, each at a random moment; how many were still running."""
    generator, killings = random.Random(seed), 0
    for _ in range(count):
        process = begin()
        if generator.random() < 0.15:
            time.sleep(generator.uniform(0, 2))  # while it still loads, perhaps
        else:
            # So many lines later, so that something is left for the rounds that follow.
            last = lines() + generator.uniform(1, 1.6 * images / count)
            while lines() < last and process.poll() is None:
                time.sleep(0.002)
            time.sleep(generator.uniform(0, 0.02))
        killings += process.poll() is None
        killed(process)
    return killings


def lines_so_far(out, name="journal-1-of-1.jsonl"):
    try:
        return journal(out, name)
    except FileNotFoundError:
        return []


def difference(one, other):
    """The largest difference of two maps or pictures, as a share of the largest value (255 for pictures)."""
    if one.startswith(b"\x93NUMPY"):
        first, second = (np.load(io.BytesIO(content)).astype(float) for content in (one, other))
        return float(np.abs(first - second).max() / np.abs(second).max())
    first, second = (np.asarray(Image.open(io.BytesIO(content)), float) for content in (one, other))
    return float(np.abs(first - second).max() / 255)


if __name__ == "__main__":
    from tests.scale.engines import nets_of

    with tempfile.TemporaryDirectory() as temporary:
        for size in ("1", "16"):
            print("batch", size, rounds(Path(temporary, size), int(sys.argv[1]), 200, size, seed=1), flush=True)
        print("packs", pack_rounds(Path(temporary, "packs"), int(sys.argv[1]), 160, seed=1), flush=True)
        rows_options = ("--engine", "processes")
        print("rows", engine_rounds(Path(temporary, "rows"), int(sys.argv[1]), 160, nets_of, *rows_options), flush=True)
        print("evaluate", evaluation_rounds(Path(temporary, "evaluate"), int(sys.argv[1]), 40, seed=1), flush=True)
