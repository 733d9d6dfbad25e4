"""Two small nets of which it is known what they look at: the map's mass and rank must show it, through the command."""

import json

import pytest
from click.testing import CliRunner

from lrpcli.cli import main
from lrpcli.lrp.composites.default import DEFAULT_CONFIG
from tests.documentation.pages import ROOT

NETS = ROOT / "tests" / "nets"
PLAIN, TAGGED = NETS / "shapes-plain.safetensors", NETS / "shapes-tagged.safetensors"


def measured(tmp_path, net, photos, masks):
    """The labels of the pictures by their folders, and the mean mass and rank of each method."""
    result = CliRunner().invoke(
        main,
        ["evaluate", str(NETS / photos), "-o", str(tmp_path / "out"), "--model", str(net), "--masks",
         str(NETS / masks), "--measure", "ground-truth", "--config", DEFAULT_CONFIG, "--config", "epsilon-plus",
         "--control", "gradient", "--control", "edges", "--json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    *rows, summary = (json.loads(line) for line in result.stdout.splitlines())
    labels = [(row["input"].split("/")[-2], row["label"]) for row in rows]
    assert summary["results"]["images_with_masks"] == len(rows)
    return labels, {
        method["name"]: tuple(method["metrics"][name]["mean"] for name in ("mass", "rank"))
        for method in summary["results"]["methods"]
    }


@pytest.mark.slow
def test_a_net_that_learnt_shapes_looks_at_the_shapes(tmp_path):
    labels, found = measured(tmp_path, PLAIN, "plain/photos", "plain/masks")
    assert len(labels) == 40 and all(folder == label for folder, label in labels)
    for config, mass, rank in ((DEFAULT_CONFIG, 0.4, 0.4), ("epsilon-plus", 0.5, 0.7)):
        assert found[config][0] > mass and found[config][1] > rank, found
    for control in ("gradient-norm", "edges"):
        assert found[control][0] < 0.2 and found[control][1] < 0.3, found


@pytest.mark.slow
def test_a_net_that_learnt_the_tag_looks_at_the_tag(tmp_path):
    labels, tag = measured(tmp_path / "tag", TAGGED, "tagged/photos", "tagged/tags")
    assert labels == [("disc", "disc")] * 10
    _, disc = measured(tmp_path / "disc", TAGGED, "tagged/photos", "tagged/masks")
    for config in (DEFAULT_CONFIG, "epsilon-plus"):
        assert tag[config][0] > 0.5 > 0.2 > disc[config][0], (tag, disc)
        assert tag[config][1] > 0.5 > 0.3 > disc[config][1], (tag, disc)
    without, _ = measured(tmp_path / "without", TAGGED, "plain/photos/disc", "plain/masks/disc")
    assert len(without) == 10 and all(label != "disc" for _, label in without)


@pytest.mark.slow
def test_the_tag_says_nothing_to_a_net_that_never_saw_it(tmp_path):
    labels, tag = measured(tmp_path / "tag", PLAIN, "tagged/photos", "tagged/tags")
    assert labels == [("disc", "disc")] * 10
    _, disc = measured(tmp_path / "disc", PLAIN, "tagged/photos", "tagged/masks")
    for config in (DEFAULT_CONFIG, "epsilon-plus"):
        assert tag[config][0] < 0.15 and disc[config][0] > 0.35, (tag, disc)
