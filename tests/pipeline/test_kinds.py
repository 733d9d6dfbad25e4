"""Output kinds stand in one table, and a kind that is new there is written, reported and resumed like any other."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from lrpcli.errors import ImageError
from lrpcli.pipeline.explain import Explanation
from lrpcli.pipeline.kinds import KINDS, Kind, in_writing_order
from lrpcli.pipeline.settings import OutputSettings
from lrpcli.pipeline.write import Product
from tests.photos import photo
from tests.resilience.runs import explain, rows


def test_data_is_written_before_pictures():
    names = [kind.name for kind in in_writing_order(("overlay", "heatmap", "map", "layers"))]
    assert names == ["layers", "map", "heatmap", "overlay"]


def test_every_kind_has_a_suffix_of_its_own():
    assert len({kind.suffix for kind in KINDS.values()}) == len(KINDS)


@pytest.mark.parametrize("kind", ["map", "layers"])
def test_what_the_type_of_a_file_cannot_hold_is_an_error_and_not_infinity(kind):
    item = SimpleNamespace(source=SimpleNamespace(path="a.png"))
    large = np.full((1, 2, 2), 7e4, np.float32)
    product = Product(item, Explanation(0, 1.0, 1.0, large, layers={"a": large}), large[0], 1.0, OutputSettings())
    KINDS[kind].make(product)
    half = replace(product, settings=replace(product.settings, dtype="float16"))
    with pytest.raises(ImageError, match="of 'a.png' is too large for --dtype float16. Take --dtype float32."):
        KINDS[kind].make(half)
    KINDS[kind].make(replace(half, summed=large[0] / 2, explanation=replace(half.explanation, layers={})))


def test_a_new_kind_needs_one_line(tmp_path, monkeypatch):
    def make(product):
        return json.dumps({"total": float(product.summed.sum()), "scale": product.scale}).encode()

    monkeypatch.setitem(KINDS, "facts", Kind("facts", ".facts.json", make))
    path, out = photo(tmp_path / "a.png"), tmp_path / "out"
    result = explain(path, out, "--save", "facts,overlay", "--json")
    assert result.returncode == 0, result.stderr
    row = rows(result)[0]
    assert row["outputs"] == {"facts": f"{out}/a.png.facts.json", "overlay": f"{out}/a.png.png"}
    written = json.loads((out / "a.png.facts.json").read_text())
    assert abs(written["total"] - row["relevance"]["total"]) < 1e-3 * abs(row["relevance"]["max"])
    (out / "a.png.facts.json").unlink()
    assert [row["status"] for row in rows(explain(path, out, "--save", "facts,overlay", "--json"))[:-1]] == ["ok"]
    refused = explain(path, out, "--save", "fact")
    assert refused.returncode == 2 and b"Did you mean 'facts'?" in refused.stderr
