"""Several processes share the work; status puts the parts together."""

import json

import pytest

from lrpcli.errors import UsageError
from lrpcli.pipeline.shard import Shard, parse_shard
from tests.photos import folder_of_photos
from tests.resilience.kill_rounds import pack_rounds
from tests.resilience.runs import environment, explain, journal, lrp, rows, tree


def status(output):
    return json.loads(lrp("status", output, "--json").stdout)


@pytest.mark.slow
def test_shards_share_the_images_and_status_puts_them_together(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 7), tmp_path / "out"
    (source / "bad.png").write_bytes(b"x")
    explain(source, tmp_path / "whole")
    first = explain(source, out, "--shard", "1/3", "--json")
    assert len(rows(first)) == 4
    counted = status(out)
    assert {key: counted[key] for key in ("images", "done", "failed", "missing", "shards")} == {
        "images": 8, "done": 3, "failed": 0, "missing": 5, "shards": 3}  # fmt: skip
    assert b"not begun: 2 of 3 shards" in lrp("status", out).stdout_bytes
    for part in ("2/3", "3/3"):
        explain(source, out, "--shard", part)
    counted = status(out)
    assert (counted["done"], counted["failed"], counted["missing"], counted["errors"]) == (7, 1, 0, {"decode": 1})
    assert sorted(path.name for path in (out / ".lrp").glob("*.jsonl")) == [
        f"journal-{n}-of-3.jsonl" for n in (1, 2, 3)
    ]
    maps = {name: content for name, content in tree(tmp_path / "whole").items() if name.endswith(".npy")}
    assert tree(out).keys() == tree(tmp_path / "whole").keys() and len(maps) == 7
    # Journals of all shards count, however the work is divided the next time.
    assert [row["status"] for row in rows(explain(source, out, "--json"))[:-1]].count("skipped") == 7
    assert (status(out)["done"], status(out)["shards"]) == (7, 1)
    (out / "0.png.npy").unlink()
    assert (status(out)["done"], status(out)["missing"]) == (6, 1)


def test_more_shards_than_images(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 1), tmp_path / "out"
    result = explain(source, out, "--shard", "2/2", "--json")
    assert result.returncode == 0 and [row["type"] for row in rows(result)] == ["summary"]
    assert status(out)["missing"] == 1


def test_the_part_comes_from_the_batch_system(tmp_path):
    source = folder_of_photos(tmp_path / "in", 4)
    env = environment(RANK="1", WORLD_SIZE="2")
    explain(source, tmp_path / "out", "--shard", "auto", env=env)
    assert len([row for row in journal(tmp_path / "out", "journal-2-of-2.jsonl") if row["type"] == "done"]) == 2


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"RANK": "0", "WORLD_SIZE": "8"}, Shard(1, 8)),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, Shard(4, 4)),
        ({"SLURM_ARRAY_TASK_ID": "14", "SLURM_ARRAY_TASK_COUNT": "5", "SLURM_ARRAY_TASK_MIN": "10"}, Shard(5, 5)),
        ({"SLURM_ARRAY_TASK_ID": "6", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "2",
          "SLURM_ARRAY_TASK_STEP": "2"}, Shard(3, 3)),
        ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "0",
          "SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, Shard(7, 8)),
        ({"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "10"}, Shard(1, 10)),
    ],
)  # fmt: skip
def test_variables_of_batch_systems(variables, part):
    assert parse_shard("auto", variables) == part


@pytest.mark.parametrize(
    ("text", "variables", "message"),
    [
        ("auto", {}, "finds no batch system"),
        ("auto", {"JOB_COMPLETION_INDEX": "1"}, "Set JOB_COMPLETIONS"),
        ("auto", {"RANK": "x", "WORLD_SIZE": "2"}, "needs a whole number in RANK, not 'x'"),
        ("auto", {"RANK": "2", "WORLD_SIZE": "2"}, "cannot use part 2 of 2, which RANK and WORLD_SIZE say"),
        ("0/3", {}, "--shard must be i/n"),
        ("4/3", {}, "such as 2/8"),
        ("1", {}, "not '1'"),
        ("a/b", {}, "not 'a/b'"),
    ],
)
def test_parts_that_cannot_be_used(text, variables, message):
    with pytest.raises(UsageError, match=message):
        parse_shard(text, variables)


def test_every_item_is_in_one_part():
    items = list(range(11))
    assert sorted(item for number in (1, 2, 3) for item in Shard(number, 3).share(items)) == items


def test_status_of_a_folder_without_a_journal_is_exit_2(tmp_path):
    result = lrp("status", tmp_path)
    assert result.exit_code == 2 and "holds no journal" in result.stderr


@pytest.mark.slow
def test_packed_shards_that_are_killed_hold_every_image_once(tmp_path):
    """By hand with 20 kills of 8 shards: python -m tests.resilience.kill_rounds 20"""
    pytest.importorskip("pyarrow")
    found = pack_rounds(tmp_path, 4, 30, shards=3)
    assert found.pop("killed") >= 3 and found.pop("reruns") <= 1 and found.pop("tars") >= 3
    assert found == {"exit": 0, "images": 30, "twice": 0, "equal": True, "open": 0, "rows in the index": 30}
