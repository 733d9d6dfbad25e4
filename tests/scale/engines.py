"""What the tests of all engines share: runs of the tiny net, inline and elsewhere, and spies on what is loaded."""

from contextlib import suppress
from pathlib import Path

from tests.photos import folder_of_photos, photo
from tests.resilience.runs import TINY_OPTIONS, journal, lrp, rows, tree

SMALL = ("-b", "2", "-j", "2")
"""Batches of two, so that a few images make several rows."""
MEASURED = (*TINY_OPTIONS, "--config", "epsilon", "--config", "beta-1", "--region", "8", "-b", "8")
NO_TORCH = """
import sys
def hostile(event, arguments):
    if event == 'import' and arguments[0] == 'torch':
        raise SystemExit('torch is imported')
sys.addaudithook(hostile)
"""


def photos_with_a_broken_one(folder, count=9):
    """`count` photos and a file that is none, which stands among them."""
    folder_of_photos(folder, count)
    (folder / "5bad.png").write_bytes(b"no image")
    return folder


DEADLY_PACKS = """
import os
from lrpcli.records.stores import ObjectStore
from lrpcli.records.tar_store import TarStore
def deadly(put):
    def hostile(self, image, base, files):
        if image.startswith('deadly'): os.kill(os.getpid(), 9)
        put(self, image, base, files)
    return hostile
TarStore.put, ObjectStore.put = deadly(TarStore.put), deadly(ObjectStore.put)
"""


def hostile_packer(folder):
    """A folder for PYTHONPATH under which packing or putting results called deadly* kills the process."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(DEADLY_PACKS)
    return folder


def unpacked(output, folder):
    """What `lrp unpack` makes of the tars of an output folder: path to content."""
    assert lrp("unpack", "-q", output, folder).exit_code in (0, 1)  # a failed image is named again
    return tree(folder)


def nets_of_ray(command=None):
    """Processes of Ray that hold a net, by their ids."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"ray::NetActor" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return found


def running_nets():
    """Processes of --engine processes that hold a net, by their ids, and who started them."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"lrpcli.scale.processes" in (place / "cmdline").read_bytes():
                found[int(place.name)] = int((place / "stat").read_bytes().rpartition(b")")[2].split()[1])
    return found


def nets_of(parent):
    """The ids of the processes with a net that `parent` started."""
    return [number for number, starter in running_nets().items() if starter == parent]


def without_torch(folder):
    """A folder for PYTHONPATH under which a process ends that imports torch."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(NO_TORCH)
    return folder


def shown(result):
    """The rows of --json without what differs from one folder and run to another."""
    found = rows(result)
    for row in found:
        row.pop("seconds", None)
        row.pop("outputs", None)
        for one in row.get("explanations", ()):
            one.pop("outputs", None)
    return found


def row_journals(output, kind="journal"):
    """The names of the journals that hold lines."""
    return sorted(path.name for path in (output / ".lrp").glob(f"{kind}-*.jsonl") if path.stat().st_size)


def finished(output, kind="journal"):
    """The names of images that journals say are done, as often as they do."""
    return [
        line["name"]
        for name in row_journals(output, kind)
        for line in journal(output, name)
        if line["type"] == "done" and line["status"] == "ok"
    ]


def poison(folder, name="deadly.png"):
    """A photo whose results kill the process that writes them, see hostile_writer."""
    return photo(folder / name, 77)


def evaluate(*arguments, env=None):
    """A finished `lrp evaluate` in this process."""
    return lrp("evaluate", *MEASURED, *arguments, env=env)
