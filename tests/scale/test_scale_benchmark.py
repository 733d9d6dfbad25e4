"""The model of a hundred million images: what it says of costs that can be worked out by hand."""

import json

import pytest

from benchmarks.scale import IMAGES, Node, Shared, rate_of, simulate, tables
from tests.documentation.pages import DOCS

COSTS = {
    "machine": "none", "model": "net", "config": "epsilon", "images": 1, "batch": 1,
    "seconds": {"decode": 0.01, "engine": 0.07, "encode": 0.01, "write": 0.005, "journal": 0.005},
    "bytes_read": 1e5, "bytes_written": {"overlay": 2e5, "map": 9.9e4}, "journal_bytes": 1e3, "load": 2.0,
}  # fmt: skip
SHARED = Shared(read=1e8, written=3e8, changes=4000.0)


def test_the_rate_of_a_node_is_that_of_its_slowest_part():
    cpu = rate_of(Node("CPU", 10), COSTS, SHARED)
    assert cpu["first"] == "processors" and cpu["rate"] == pytest.approx(100)
    assert cpu["saturates"] == {name: pytest.approx(10) for name in ("reading", "writing", "files made and renamed")}
    assert cpu["days"]["8"] == pytest.approx(IMAGES / 800 / 86400)
    card = rate_of(Node("GPU", 10, 1, 200.0), COSTS, SHARED)
    assert (card["first"], card["rate"]) == ("cards", 200) and card["limits"]["processors"] == pytest.approx(10 / 0.03)
    assert rate_of(Node("GPU", 3, 1, 200.0), COSTS, SHARED)["first"] == "processors"


def test_rows_bear_slow_and_dying_workers_and_shards_do_not():
    calm, slow, dying = (simulate(1000.0, 16, share, mtbf, 2.0) for share, mtbf in ((0, 0), (0.25, 0), (0, 600.0)))
    assert calm["lost"] == slow["lost"] == 0 < dying["lost"] < 1e-3
    assert 1 <= calm["rows"] < 1.01 and calm["rows"] < calm["shards"]
    assert slow["shards"] > 3 and slow["rows"] < 1.02
    assert dying["rows"] == pytest.approx(1 + 62 / 600, abs=0.02), "a minute and the net, every ten minutes"


def test_the_page_shows_what_the_script_wrote():
    measured = json.loads((DOCS / "scale.json").read_text())
    assert tables(measured) in (DOCS / "scale.md").read_text()
    rate = {node["node"]: node for node in measured["rates"]}["CPU, 64 cores"]
    assert rate["rate"] == pytest.approx(64 / sum(measured["costs"]["seconds"].values()))
