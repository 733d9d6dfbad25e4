"""`lrp models fetch`, `verify` and `list`, and --mirror wherever weights are fetched, with nets of a test's own."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import lrpcli
from lrpcli.cli.main import main
from lrpcli.models.zoo import caffe, list_entries, onnx
from lrpcli.models.zoo.registry import RegistryEntry
from lrpcli.records.description import EXPLAIN_FILES
from tests.cli.terminals import as_if_on_terminal
from tests.models.test_download import names
from tests.models.test_mirrors import SECRET
from tests.photos import photo

NOWHERE = "http://127.0.0.1:9"
"""Where no server answers."""
NAMES = ("net-a", "net-b", "net-c")


def lrp(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def named(path: Path, name: str, **changes: object) -> RegistryEntry:
    """A named model whose weights are those of a file, which no server has."""
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    facts = {"hash": digest, "size": path.stat().st_size, "urls": (f"{NOWHERE}/{path.name}",),
             "preprocessing": {"pixel_scale": 1.0}, **changes}  # fmt: skip
    return RegistryEntry(name, name.upper(), (3, 16, 16), 4, **facts)


@pytest.fixture
def mirror(tiny_caffemodel, tmp_path, monkeypatch) -> Path:
    """A folder with the weights of NAMES, which are all named models beside bundled ones; another has no hash."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    entries = {}
    for name in NAMES:
        path = Path(shutil.copy(tiny_caffemodel, folder / f"{name}.caffemodel"))
        path.write_bytes(path.read_bytes().replace(b"Tiny", f"T{name[-3:]}".encode()))
        entries[name] = named(path, name)
    entries["own"] = named(path, "own", hash=None)
    entries["none"] = named(path, "none", urls=())
    monkeypatch.setattr(caffe, "registry", lambda: entries)
    monkeypatch.setattr(onnx, "registry", dict)
    return folder


def test_the_nets_of_these_tests(mirror) -> None:
    assert [entry.name for entry in list_entries()] == ["caffenet-small", "cifar10", *NAMES, "own", "none"]


def test_all_are_fetched_but_those_that_cannot_be_checked(mirror, cache) -> None:
    done = lrp("models", "fetch", "--all", "--mirror", mirror)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [str(cache / f"{name}.caffemodel") for name in NAMES]
    assert re.findall(r"^Left out: (\w+)\. (\w+ \w+)", done.stderr, re.MULTILINE) == [
        ("own", "No hash"), ("none", "There is")
    ]  # fmt: skip
    assert lrp("models", "fetch", "--all", "-q").stderr == ""


def test_one_that_fails_does_not_keep_the_others_from_being_fetched(mirror, cache) -> None:
    (mirror / "net-b.caffemodel").write_bytes(b"else")
    done = lrp("models", "fetch", "--all", "-q", "--mirror", mirror)
    assert done.exit_code == 3
    assert done.stdout.splitlines() == [str(cache / f"net-{letter}.caffemodel") for letter in "ac"]
    assert (
        f"net-b: The weights of 'net-b' could not be fetched from {mirror}: the file there has 4 bytes" in done.stderr
    )
    assert done.stderr.endswith("Error: Not fetched: net-b. The lines above say why.\n")
    assert names(cache) == ["net-a.caffemodel", "net-c.caffemodel"]


def test_fetch_as_json(mirror, cache) -> None:
    (mirror / "net-b.caffemodel").unlink()
    done = lrp("models", "fetch", "net-a", "net-b", "net-a", "own", "cifar10", "--json", "--mirror", mirror)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert done.exit_code == 3 and list(rows) == ["net-a", "net-b", "own", "cifar10"]
    assert rows["net-a"] == {"name": "net-a", "path": str(cache / "net-a.caffemodel"), "error": None}
    assert rows["net-b"]["path"] is None and "No such file" in rows["net-b"]["error"]
    assert rows["own"]["error"].startswith("No hash is known")
    assert rows["cifar10"]["path"].endswith("cifar10.safetensors")


@pytest.mark.parametrize("arguments", [(), ("--all", "net-a")])
def test_either_names_or_all(mirror, arguments) -> None:
    done = lrp("models", "fetch", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "Error: Give names of models whose weights to fetch, or --all for all of them.\n"


def test_a_misspelt_name_is_refused_before_anything_is_fetched(mirror, cache) -> None:
    done = lrp("models", "fetch", "net-a", "nett-b", "--mirror", mirror)
    assert done.exit_code == 2 and "Did you mean 'net-b'?" in done.stderr
    assert not cache.exists()


@pytest.mark.parametrize("how", ["flag", "variable", "settings"])
def test_weights_are_fetched_from_the_mirror_on_first_use(mirror, cache, tmp_path, monkeypatch, how) -> None:
    picture, settings = photo(tmp_path / "a.png"), tmp_path / "settings.toml"
    settings.write_text(f'mirror = "{mirror}"\n')
    if how == "variable":
        monkeypatch.setenv("LRP_MIRROR", str(mirror))
    option = {"flag": ("--mirror", mirror), "settings": ("--settings", settings), "variable": ()}[how]
    done = lrp("explain", "--model", "net-a", *option, picture, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert (cache / "net-a.caffemodel").is_file()
    # A mirror changes nothing about results, so another one goes on with the same run.
    again = lrp("explain", "--model", "net-a", "--mirror", NOWHERE, picture, tmp_path / "out")
    assert again.exit_code == 0 and "1 already done" in again.stderr
    assert "mirror" not in (tmp_path / "out" / ".lrp" / EXPLAIN_FILES.description).read_text()


def test_evaluate_and_python_take_a_mirror_too(mirror, cache, tmp_path) -> None:
    picture = photo(tmp_path / "a.png")
    done = lrp(
        "evaluate", "--model", "net-b", "--mirror", mirror, "-q", "--steps", "2", picture, "-o", tmp_path / "out"
    )
    assert done.exit_code == 0, done.output
    assert lrpcli.load_model("net-c", mirror=str(mirror)).outputs == 4
    assert names(cache) == ["net-b.caffemodel", "net-c.caffemodel"]


def test_a_mirror_that_cannot_be_one_is_a_usage_error_without_its_password(mirror, tmp_path, monkeypatch) -> None:
    bad = f"ftp://anna:{SECRET}@x.example/nets"
    for command in (("models", "fetch", "net-a"), ("explain", "x.png", tmp_path / "out"), ("models", "show", "net-a")):
        done = lrp(*command, "--mirror", bad)
        assert done.exit_code == 2 and "'ftp://x.example/nets' cannot be a mirror" in done.stderr
        assert SECRET not in done.output
    monkeypatch.setenv("LRP_MIRROR", bad)
    done = lrp("models", "fetch", "net-a")
    assert done.exit_code == 2 and "(from LRP_MIRROR)" in done.stderr and SECRET not in done.output


def test_what_is_set_is_shown_without_passwords(monkeypatch) -> None:
    monkeypatch.setenv("LRP_MIRROR", f"https://anna:{SECRET}@x.example/nets?key={SECRET}")
    shown = [lrp("env"), lrp("env", "--json"), lrp("explain", "--show-settings"), lrp("models", "fetch", "--help")]
    assert all(result.exit_code == 0 and SECRET not in result.output for result in shown)
    facts = json.loads(shown[1].stdout)
    assert facts["mirror"] == facts["variables"]["LRP_MIRROR"] == "https://x.example/nets"
    assert any(
        line.split() == ["mirror", "https://x.example/nets", "LRP_MIRROR"] for line in shown[2].stdout.splitlines()
    )
    monkeypatch.delenv("LRP_MIRROR")
    assert json.loads(lrp("env", "--json").stdout)["mirror"] is None


def test_verify_looks_at_size_hash_and_files_of_any_name(mirror, cache, tmp_path) -> None:
    lrp("models", "fetch", "net-a", "net-b", "net-c", "--mirror", mirror)
    (cache / "net-b.caffemodel").write_bytes(b"short")
    third = cache / "net-c.caffemodel"
    third.write_bytes(third.read_bytes()[:-1] + b"\0")
    renamed, wrong, other = tmp_path / "x.caffemodel", tmp_path / "net-a.caffemodel", tmp_path / "y.caffemodel"
    shutil.copy(mirror / "net-a.caffemodel", renamed)
    wrong.write_bytes(b"else")
    other.write_bytes(b"else")
    done = lrp("models", "verify", "--json")
    assert done.exit_code == 3 and "Error: Not verified: net-b, net-c." in done.stderr
    states = {row["name"]: row["weights"] for row in json.loads(done.stdout)}
    assert states == {"caffenet-small": "bundled", "cifar10": "bundled", "net-a": "ok", "net-b": "wrong size",
                      "net-c": "wrong hash"}  # fmt: skip
    done = lrp("models", "verify", renamed, wrong, other, "net-a", tmp_path, tmp_path / "no.caffemodel", "--json")
    assert [(row["name"], row["weights"], row["file"]) for row in json.loads(done.stdout)] == [
        ("net-a", "ok", str(renamed)),
        ("net-a", "wrong size", str(wrong)),
        (None, "unknown", str(other)),
        ("net-a", "ok", str(cache / "net-a.caffemodel")),
        (None, "unreadable", str(tmp_path)),
        (None, "unreadable", str(tmp_path / "no.caffemodel")),
    ]
    assert done.exit_code == 3 and f"Not verified: net-a, {other}, {tmp_path}," in done.stderr
    assert lrp("models", "verify", renamed).exit_code == 0


def test_a_pipe_is_not_waited_for(mirror, cache, tmp_path) -> None:
    os.mkfifo(tmp_path / "net-a.caffemodel")
    done = lrp("models", "verify", tmp_path / "net-a.caffemodel")
    assert done.exit_code == 3 and "it is a named pipe, not a file" in done.stderr


@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_the_list_fits_terminals_of_any_width(monkeypatch, width) -> None:
    as_if_on_terminal(monkeypatch, width)
    lines = lrp("models", "list", "-q").stdout.splitlines()
    words = " ".join(lines).split()
    assert max(map(len, lines)) <= width
    for entry in list_entries():
        assert entry.name in words
        assert " ".join(entry.title.split()) in " ".join(words)
