"""`lrp models` as real processes and, for the many small cases, inside this one."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from lrpcli.cli.main import main
from lrpcli.models.zoo import find_entry, list_entries
from tests.models.files import TINY, write_safetensors


def lrp(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["models", *map(str, arguments)], catch_exceptions=False)


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_list() -> None:
    listed = lines(lrp("list"))
    assert listed[0].split() == ["name", "input", "outputs", "weights", "sources", "title"]
    assert [line.split()[0] for line in listed[1:]] == [entry.name for entry in list_entries()]
    assert max(map(len, listed)) < 100
    caffenet = next(line for line in listed if line.startswith("caffenet "))
    assert caffenet.split(maxsplit=3)[:3] == ["caffenet", "3x227x227", "1,000"]
    assert "not fetched" in caffenet


def test_list_as_json() -> None:
    rows = json.loads(lrp("list", "--json").stdout)
    sources = list(find_entry("googlenet").weights.urls)
    assert {"name": "googlenet", "input": [3, 224, 224], "outputs": 1000, "weights": "not fetched",
            "sources": sources, "title": "GoogLeNet (BVLC)"} in rows  # fmt: skip


def test_show_works_without_the_weights() -> None:
    shown = lines(lrp("show", "caffenet"))
    facts = {line.split()[0]: line.split(maxsplit=1)[1] for line in shown[: shown.index("")]}
    assert facts["parameters"] == "60,965,224"
    assert facts["input"] == "3x227x227"
    assert facts["labels"] == "1,000"
    assert facts["weights"] == "not fetched"
    assert facts["hash"] == "sha256:472d4a06035497b180636d8a82667129960371375bd10fcb6df5c6c7631f25e0"
    assert facts["licence"] == "unrestricted, as BVLC states"
    assert facts["preprocessing"].startswith("squashed to 256 x 256, centre 227 x 227, BGR")
    table = shown[shown.index("") + 1 :]
    assert table[0].split() == ["layer", "kind", "output", "details"]
    assert "norm1        lrn              96x27x27   n=5 alpha=0.0001 beta=0.75 k=1 across-channels" in table
    assert table[-1].split() == ["fc8", "fully-connected", "1000", "4096->1000"]


def test_show_as_json() -> None:
    shown = json.loads(lrp("show", "vgg-cnn-s", "--json").stdout)
    assert shown["preprocessing"]["resize"] == 256
    assert shown["preprocessing"]["mean"] == [103.939, 116.779, 123.68]
    assert "VGG_mean.binaryproto" in shown["note"]
    norm = next(layer for layer in shown["layers"] if layer["layer"] == "norm1")
    assert norm == {"layer": "norm1", "kind": "lrn", "output": [96, 109, 109],
                    "details": "n=5 alpha=0.0005 beta=0.75 k=2 across-channels"}  # fmt: skip


def test_show_says_what_was_found_and_not_what_a_file_claims_instead(tmp_path, tiny_blobs) -> None:
    claims = dict.fromkeys(("sha256", "outputs", "source", "parameters", "input"), "claimed")
    path = write_safetensors(tmp_path / "net.safetensors", tiny_blobs, prototxt=TINY, made="by hand", **claims)
    facts = json.loads(lrp("show", path, "--json").stdout)
    assert "claimed" not in facts.values() and facts["made"] == "by hand"
    assert facts["source"] == str(path) and facts["outputs"] == 4


def test_show_a_file_with_the_options_of_explain(tmp_path, tiny_blobs, tiny_caffemodel, tiny_prototxt) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\nd\n")
    shown = lines(
        lrp("show", tiny_caffemodel, "--prototxt", tiny_prototxt, "--labels", labels, "--input-shape", "3,16,16",
            "--mean", "1,2,3", "--resize", "20")
    )  # fmt: skip
    assert "preprocessing  shorter side 20, centre 16 x 16, BGR, 0..255, minus mean 1, 2, 3; by what was given" in shown
    assert "labels         4" in shown
    bare = write_safetensors(
        tmp_path / "own.safetensors",
        tiny_blobs,
        prototxt=TINY,
        licence="CC0",
        accuracy={"top-1": 80.5, "by class": {"a": 1}},
        recipe={"epochs": 3},
        odd="{",
    )
    shown = lines(lrp("show", bare))
    assert {"licence        CC0", "accuracy       top-1 80.5", "odd            {"} <= set(shown)
    assert not any("epochs" in line for line in shown)
    assert json.loads(lrp("show", bare, "--json").stdout)["recipe"] == {"epochs": 3}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("show", "cafenet"), 2, "There is no model named 'cafenet'. Did you mean 'caffenet'?"),
        (("show", "net.tflite"), 2, "supported are .caffemodel, .caffemodel.h5, "),
        (("show", "no/net.caffemodel"), 3, "The weights file 'no/net.caffemodel' cannot be read"),
        (("fetch", "vgg-cnn-s"), 3, "No hash is known for the weights of 'vgg-cnn-s'"),
        (("fetch", "cifar10-full"), 3, "There is no official weights file for 'cifar10-full'"),
        (("fetch", "caffenet"), 3, "LRP_OFFLINE forbids to fetch them"),
        (("fetch", "googlenet", "alexnt"), 2, "There is no model named 'alexnt'. Did you mean 'alexnet'?"),
        (("path", "cifar10-full"), 3, "There is no official weights file"),
        (("verify", "caffenet"), 3, "Not verified: caffenet. `lrp models fetch NAME` fetches weights that are missing"),
    ],
)
def test_errors(monkeypatch, arguments, code, message) -> None:
    monkeypatch.setenv("LRP_OFFLINE", "1")
    result = lrp(*arguments)
    assert result.exit_code == code
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr


def test_path(cache) -> None:
    assert lines(lrp("path")) == [str(cache)]
    assert lines(lrp("path", "caffenet")) == [str(cache / "bvlc_reference_caffenet.caffemodel")]


def test_verify_finds_what_is_wrong(cache) -> None:
    cache.mkdir()
    (cache / "bvlc_alexnet.caffemodel").write_bytes(b"not AlexNet")
    result = lrp("verify", "--json")
    assert result.exit_code == 3
    found = {row["name"]: row["weights"] for row in json.loads(result.stdout)}
    assert found["alexnet"] == "wrong size"
    assert "caffenet" not in found
    assert "alexnet" in result.stderr


def test_stdout_holds_results_alone() -> None:
    command = [sys.executable, "-c", "from lrpcli.cli import main; main()", "models", "show", "cafenet"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.count("\n") == 1
