"""What the scripts of docs/ make of packages and of docstrings."""

import io
import json
import sys
import zipfile

import pytest
import torch

import lrpcli
from tests.documentation.pages import DOCS


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    sys.modules.pop("peers", None)
    import peers

    return peers


def wheel(path, metadata, **files):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("p-1.dist-info/METADATA", (2025, 7, 3, 0, 0, 0)), metadata)
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name.replace("__", "/"), (2024, 1, 1, 0, 0, 0)), text)
    return path


def test_a_package_is_described_by_its_metadata_and_its_source(peers, tmp_path):
    about = "Metadata-Version: 2.1\nName: Peer\nVersion: 3.1\nLicense: BSD\nRequires-Dist: tensorflow (>=2)\n"
    entries = "[console_scripts]\nexplain = p:main\n"
    files = {"p-1.dist-info__entry_points.txt": entries, "p__a.py": "def read_onnx(): ...\nLRN = 1\n"}
    name, found = peers.described(wheel(tmp_path / "p.whl", about, **files))
    assert name == "peer" and found["library"] == "TensorFlow" and found["licence"] == "BSD"
    assert (found["version"], found["date"], found["command"]) == ("3.1", "2025-07", "explain")
    assert (found["formats"], found["lrn"]) == ("onnx", "")


def test_dates_that_build_tools_make_up_are_left_out(peers):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a", (2020, 2, 2, 0, 0, 0)), "")
    assert peers.date_in(zipfile.ZipFile(memory)) == ""


def test_the_rule_behind_a_map_is_recognised(peers):
    x = torch.rand(1, 8, 3, 3, dtype=torch.float64) + 0.1
    net = peers.nets()["lrn"]
    assert peers.rule_of(net, x, peers.by_lrp(net, x)) == "the Taylor rule"
    identity = lrpcli.Explainer(net, {"kind": {"linear": {"rule": "epsilon", "epsilon": 0}}, }, lrn="identity",
                                start="one", dtype=torch.float64)(x, target=0).relevance  # fmt: skip
    assert peers.rule_of(net, x, identity) == "passed through"
    assert peers.rule_of(net, x, torch.ones_like(x)).startswith("another rule")


def test_the_table_has_a_column_for_each_program(peers):
    lines = peers.table(json.loads((DOCS / "peers.json").read_text())).splitlines()
    assert len({line.count("|") for line in lines}) == 1 and all(name in lines[0] for name in peers.TITLES.values())
    assert lrpcli.__version__ in lines[2]


def test_the_page_of_names_has_every_name_and_runs_examples_apart(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import api

    text = api.pages()
    assert all(f"## `{name}`\n" in text for name in lrpcli.__all__ if name != "__version__")
    assert "lrpcli.explain(images, model='caffenet-small', *, config=" in text
    assert "### `Explainer.__call__`" in text and text.count("```") % 2 == 0
    assert ">>> " not in "".join(text.split("```")[::2])
