"""SIGKILL of `lrp explain` into an S3 server: python -m tests.remote.kills [KILLS [SHARDS [IMAGES]]]

Each shard is a command. One after the other is killed at a random instant and begun again; what lies below the URL at
the end is compared with what a run into a folder leaves that nobody disturbs. Prints a line of JSON.
"""

import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.photos import folder_of_photos
from tests.remote.places import contents, lines
from tests.remote.server import BUCKET, s3_server, same_environment
from tests.resilience.runs import TINY_OPTIONS, command, lrp, tree

OPTIONS = (*TINY_OPTIONS, "-q", "-b", "1", "-j", "1", "--save", "overlay,map")


def begun(source, output, shard, shards, env):
    """A command that works on a shard."""
    line = command("explain", *OPTIONS, source, output, "--shard", f"{shard}/{shards}")
    return subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def kill_some(source, output, kills, shards, env, longest, seed=0):
    """Kills commands at random instants after their first results; the exit codes of the last ones, and the kills.

    `longest` is the most seconds that one is let run on after a result.
    """
    generator, killed, codes = random.Random(seed), 0, {}
    running = {shard: begun(source, output, shard, shards, env) for shard in range(1, shards + 1)}
    while running:
        shard = generator.choice(list(running))
        process = running[shard]
        if killed < kills:
            process.stdout.readline()  # an image is done, or the command has ended
            time.sleep(generator.uniform(0, longest))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
        code = _end(process)
        if code == -signal.SIGKILL:
            killed += 1
            running[shard] = begun(source, output, shard, shards, env)
        else:
            codes[shard] = code
            del running[shard]
    return codes, killed


def _end(process):
    _, said = process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        print(said.decode(errors="replace"), file=sys.stderr)
    return process.returncode


def main(kills=20, shards=2, images=80):
    """All of it."""
    with tempfile.TemporaryDirectory() as temporary, s3_server() as variables:
        os.environ.update(variables)
        source, env = folder_of_photos(Path(temporary) / "in", images), same_environment(**variables)
        output = f"s3://{BUCKET}/out"
        codes, killed = kill_some(source, output, kills, shards, env, min(1.5, 0.01 * images / shards))
        for shard in range(1, shards + 1):
            assert _end(begun(source, Path(temporary) / "alone", shard, shards, env)) == 0
        named = collections.Counter(line["name"] for line in lines(output) if line["type"] == "done")
        status = json.loads(lrp("status", output, "--json").stdout)
        table = lrp("table", output).stdout.splitlines()
        print(json.dumps({
            "killed": killed, "exit": max(codes.values()), "images": len(named), "done": status["done"],
            "missing": status["missing"], "rows": len(table) - 1,
            "done again": sum(named.values()) - len(named),
            "equal": contents(output) == tree(Path(temporary) / "alone"),
        }))  # fmt: skip


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
