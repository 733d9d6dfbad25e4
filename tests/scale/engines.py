"""What the tests of all engines share: runs of the tiny net, inline and elsewhere, and spies on what is loaded."""

from tests.photos import folder_of_photos, photo
from tests.resilience.runs import TINY_OPTIONS, journal, lrp, rows

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
