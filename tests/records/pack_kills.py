"""SIGKILL of processes that pack results, without a net: python -m tests.records.pack_kills [KILLS [SHARDS [IMAGES]]]

Each shard is a fork that goes over its images as a run does. One after the other is killed at a random moment and begun
again; what lies in the tars at the end is compared with what was put there. Prints a line of JSON.
"""

import collections
import hashlib
import json
import os
import random
import signal
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import pyarrow.parquet

from lrpcli.records.description import EXPLAIN_FILES
from lrpcli.records.explained import Explained
from lrpcli.records.journal import RunLine
from lrpcli.records.packed import member_base
from lrpcli.records.resume import ENDED, Resume
from lrpcli.records.stores import NewFile, Place
from lrpcli.records.tar_store import TarStore
from tests.records.results import description, explained


def content(path):
    """Bytes that belong to a path alone."""
    return hashlib.sha256(path.encode()).digest() * (100 + len(path) * 7)


def pack(folder, names, shard, shards):
    """What a run does with its share of the images, but for computing them."""
    own, out = f"{shard}-of-{shards}", folder / "out"
    store = TarStore(Place(out, own, 40_000))
    run = description()
    with (
        Resume(out, EXPLAIN_FILES, Explained, run.fingerprint, own) as resume,
        store.opened(resume.tars, force=False),
    ):
        run.write(out, EXPLAIN_FILES, own)
        share = names[shard - 1 :: shards]
        resume.begin_run(RunLine(shard, shards, len(names), len(share)))
        for name in share:
            path = str(folder / "in" / name)
            if resume.look(path, name) == ENDED:
                record = resume.record(path, name)
            else:
                resume.take(path, name)
                resume.begin(name)
                record = explained(name, input=path)
                paths = record.outputs[0].paths
                store.put(name, f"{name}.281", [NewFile(kind, paths[kind], content(paths[kind])) for kind in paths])
            with store.kept(record) as kept:
                resume.end(kept)


def begun(folder, names, shard, shards):
    """A fork that packs; its number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            pack(folder, names, shard, shards)
            code = 0
        finally:
            os._exit(code)
    return child


def lines(out):
    """How much the journals hold."""
    return sum(path.stat().st_size for path in (out / ".lrp").glob("journal-*"))


def kill_some(folder, kills, shards, names, seed=0):
    """Kills processes at random moments; the exit codes of those that were left alone in the end, and the kills."""
    generator, out, killed = random.Random(seed), folder / "out", 0
    running = {shard: begun(folder, names, shard, shards) for shard in range(1, shards + 1)}
    codes = {}
    while running:
        last = lines(out) + generator.uniform(0, 900 * len(names) / (kills + 1))
        while running and lines(out) < last:
            for shard, child in list(running.items()):
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    codes[shard] = os.waitstatus_to_exitcode(status)
                    del running[shard]
            time.sleep(0.0005)
        if running and killed < kills:
            shard = generator.choice(list(running))
            os.kill(running[shard], signal.SIGKILL)
            _, status = os.waitpid(running[shard], 0)
            killed += os.waitstatus_to_exitcode(status) == -signal.SIGKILL
            running[shard] = begun(folder, names, shard, shards)
    return codes, killed


def main(kills=20, shards=8, images=400):
    """All of it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names = [f"d{number % 7}/{number:04}.v1.jpg" for number in range(images)]
        for name in names:
            path = folder / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        out = folder / "out"
        codes, killed = kill_some(folder, kills, shards, names)
        expected = {path: content(path) for name in names for path in (f"{name}.281.png", f"{name}.281.npy")}
        found = []
        for tar in sorted(out.glob("*.tar")):
            with tarfile.open(tar) as archive:
                found += [(member.name, archive.extractfile(member).read()) for member in archive]
        done = collections.Counter(
            row["name"]
            for path in (out / ".lrp").glob("journal-*")
            for row in map(json.loads, path.read_bytes().splitlines())
            if row["type"] == "done"
        )
        print(json.dumps({
            "killed": killed, "exit": max(codes.values()), "tars": len(list(out.glob("*.tar"))),
            "images": len(done), "done twice": sum(times > 1 for times in done.values()),
            "members": len(found), "equal": {unpacked(name): data for name, data in found} == expected,
            "left open": len(list((out / ".lrp").glob("open-*"))) + len(list(out.rglob("*.tmp"))),
            "rows in the index": pyarrow.parquet.read_table(out / "index.parquet").num_rows,
        }))  # fmt: skip


def unpacked(member):
    """The path of the file that a member is."""
    folder, slash, name = member.rpartition("/")
    key, dot, ending = name.partition(".")
    return member_base(folder + slash + key) + dot + ending


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
