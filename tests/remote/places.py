"""Places behind URLs for tests: what lies there, and a file system that fails as it is asked to."""

import json
import os
from pathlib import Path

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from tests.resilience.runs import lrp

SECRET = "pass-word"


class Hostile(MemoryFileSystem):
    """Objects in memory; reading or writing those called gone*, denied*, odd* fails."""

    protocol = "hostile"
    cachable = False
    store, pseudo_dirs = {}, [""]
    full = False

    @classmethod
    def _strip_protocol(cls, path):
        path = path.removeprefix("hostile://").rpartition("@")[2]
        return "/" + path.strip("/") if path.strip("/") else ""

    def cat_file(self, path, start=None, end=None, **keywords):
        name = path.rpartition("/")[2]
        if name.startswith("gone"):
            raise FileNotFoundError(path)
        if name.startswith("denied"):
            raise PermissionError("Access Denied")
        if name.startswith("odd"):
            raise RuntimeError(f"no route to me:{SECRET}@host\nand more")
        return super().cat_file(path, start=start, end=end, **keywords)

    def pipe_file(self, path, value, mode="overwrite", **keywords):
        if Hostile.full and not path.rpartition("/")[2].startswith("run.json"):
            raise OSError(28, "No space left on device")
        return super().pipe_file(path, value, mode=mode, **keywords)


fsspec.register_implementation("hostile", Hostile, clobber=True)


def file_system(url, env=None):
    """The file system of a URL and the path there."""
    for name, value in (env or {}).items():
        os.environ[name] = value
    files, path = fsspec.core.url_to_fs(url, skip_instance_cache=True)
    files.invalidate_cache()
    return files, path


def put(url, contents):
    """Writes objects below a URL."""
    files, path = file_system(url)
    for key, content in contents.items():
        files.pipe_file(f"{path}/{key}", content)


def contents(url, *, journals=False):
    """Every object below a URL: key to content; without what the run remembers, unless `journals`."""
    files, path = file_system(url)
    found = {name[len(path) + 1 :]: name for name in files.find(path)}
    return {key: files.cat_file(name) for key, name in sorted(found.items()) if journals or not key.startswith(".lrp/")}


def lines(url):
    """The lines of all journals below a URL, as they are read: piece after piece."""
    pieces = {key: content for key, content in contents(url, journals=True).items() if key.endswith(".jsonl")}
    return [json.loads(line) for key in sorted(pieces) for line in pieces[key].splitlines()]


def done(url):
    """The names of images that the journals call finished, as often as they do."""
    return sorted(line["name"] for line in lines(url) if line["type"] == "done" and line["status"] == "ok")


def table(place, *without):
    """The rows of `lrp table` with the place's own name and what took its time left out."""
    result = lrp("table", place)
    assert result.exit_code == 0, result.output
    rows = [line.split(",") for line in result.stdout.replace(str(place).rstrip("/"), "OUT").splitlines()]
    hidden = {rows[0].index(name) for name in ("seconds", *without)}
    return [[cell for column, cell in enumerate(row) if column not in hidden] for row in rows]


def upload(folder, url):
    """Puts the files of a folder below a URL."""
    put(url, {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()})
