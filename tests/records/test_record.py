"""Records: to JSON and back, and what is not one is a ValueError and nothing else."""

import copy
import json
import os
import random
from dataclasses import replace

import pytest

from lrpcli.errors import ImageError, UsageError
from lrpcli.paths import STDIN
from lrpcli.records.description import (
    EVALUATE_FILES,
    EXPLAIN_FILES,
    RunDescription,
    read_description,
    require_same_run,
)
from lrpcli.records.explained import Explained, ExplainedClass, RelevanceRange, TopClass
from lrpcli.records.identity import FileState
from lrpcli.records.json_values import Fields, json_line
from lrpcli.records.record import FAILED, SKIPPED, Outputs, Record

ODD = os.fsdecode(b"caf\xe9/\x1b[2J.jpg")


def explained(classes=1, name=ODD):
    parts = tuple(
        ExplainedClass(
            Outputs({"overlay": f"{name}.top{k}.png", "map": f"{name}.top{k}.npy"}), k, f"label {k}", 0.5 / (k + 1),
            RelevanceRange(1.25, 2.5, -0.5, 0.75, exploded=k == 1, kept=None if k == 2 else 0.5), 0.125,
        )
        for k in range(classes)
    )  # fmt: skip
    return Explained(
        input=f"/data/{name}", name=name, seconds=0.25, classes=parts, top=(TopClass(3, "cat", 0.5),), note="odd tag",
        placement={"image_size": [40, 48], "box": [0.0, 1.5, 40.0, 41.5], "size": [32, 32]},
        file=FileState(f"/data/{name}", 7, 2**62), content="0f" * 16, class_cosine=0.75,
    )  # fmt: skip


def line(record):
    """As a journal has it."""
    return {**record.as_json(), **(record.file.as_json() if record.file else {})}


@pytest.mark.parametrize("classes", [1, 3])
def test_an_explained_image_comes_back_as_it_was(classes):
    record = explained(classes)
    assert Explained.from_json(Fields(json.loads(json_line(line(record))))) == record


def test_an_image_warns_where_one_of_its_maps_exploded():
    assert explained(1).warnings == ()
    assert len(explained(3).warnings) == 1
    assert "exploded" not in line(explained(1))["relevance"]


def test_a_kept_share_is_written_where_it_is_known():
    parts = explained(3).as_json()["explanations"]
    assert [part["relevance"].get("kept") for part in parts] == [0.5, 0.5, None]
    assert "class_cosine" not in replace(explained(1), class_cosine=None).as_json()


def test_a_failed_image_comes_back_as_it_was():
    record = Record.failed("a.jpg", "a.jpg", ImageError("decode", "The image 'a.jpg' is empty (0 bytes)."))
    again = Record.from_json(Fields(json.loads(json_line(line(record)))))
    assert again == record and again.status == FAILED and again.failure.kind == "decode"


def test_what_json_prints_is_a_part_in_a_fixed_order():
    shown = explained(2).as_shown()
    assert list(shown) == ["type", "input", "status", "outputs", "target", "label", "score", "top", "relevance",
                           "explanations", "class_cosine", "seconds"]  # fmt: skip
    failed = Record.failed("a.jpg", "a.jpg", ImageError("io", "It is gone.")).as_shown()
    assert failed == {
        "type": "image",
        "input": "a.jpg",
        "status": "failed",
        "error": {"kind": "io", "message": "It is gone."},
    }


def test_standard_input_has_no_state():
    assert FileState.of(STDIN) is None


def test_a_record_is_moved_below_a_folder_and_found_again():
    record = explained(2, "a.jpg")
    assert record.below("out").outputs[1].paths == {"overlay": "out/a.jpg.top1.png", "map": "out/a.jpg.top1.npy"}
    again = record.as_skipped("other/a.jpg", "b.jpg")
    assert (again.status, again.input, again.name) == (SKIPPED, "other/a.jpg", "b.jpg")
    assert again.classes == record.classes


def mutated(value, generator):
    """The JSON value with one random part of it replaced, removed or wrapped."""
    value = copy.deepcopy(value)
    place, keys = value, []
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = generator.choice(list(keys))
        if not isinstance(place[key], (dict, list)) or not place[key] or generator.random() < 0.4:
            break
        place = place[key]
    odd = [
        None,
        True,
        -1,
        10**400,
        1e400,
        float("nan"),
        "",
        "x",
        [],
        {},
        [[]],
        {"bytes": 5},
        {"bytes": "?"},
        "9" * 5000,
    ]
    if generator.random() < 0.2:
        del place[key]
    else:
        place[key] = generator.choice([*odd, [place[key]]])
    return value


@pytest.mark.parametrize("classes", [1, 2])
def test_damaged_records_are_value_errors_and_nothing_else(classes):
    generator, refused = random.Random(classes), 0
    for _ in range(2000):
        values = mutated(json.loads(json_line(line(explained(classes)))), generator)
        try:
            record = Explained.from_json(Fields(values))
        except ValueError:
            refused += 1
        else:
            json.loads(json_line(record.as_shown()))
            record.below("out")
    assert refused > 500


def description(**settings):
    return RunDescription("net", "5" * 64, {"size": [2, 2]}, settings, "0.1.0")


def test_a_description_comes_back_and_the_version_does_not_count(tmp_path):
    before = description(explain={"config": "epsilon"}, tuples=(1, 2))
    before.write(tmp_path, EXPLAIN_FILES)
    found = read_description(tmp_path, EXPLAIN_FILES)
    assert found.as_json() == before.as_json() and found.fingerprint == before.fingerprint
    assert read_description(tmp_path, EVALUATE_FILES) is None
    later = RunDescription("net", "5" * 64, {"size": [2, 2]}, before.settings, "9.9.9")
    assert later.fingerprint == before.fingerprint
    require_same_run(tmp_path, EXPLAIN_FILES, later)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": 2}, "format was 1 and is now 2"),
        ({"results": 2}, "results was 1 and is now 2"),
        ({"model": "other"}, 'model was "net" and is now "other"'),
        ({"settings": {"explain": {"config": "beta-1"}}}, 'explain.config was "epsilon" and is now "beta-1"'),
    ],
)
def test_what_results_depend_on_is_named_where_it_differs(tmp_path, changed, message):
    before = description(explain={"config": "epsilon"})
    before.write(tmp_path, EXPLAIN_FILES)
    now = RunDescription(**{**vars(before), **changed})
    assert now.fingerprint != before.fingerprint
    with pytest.raises(UsageError) as caught:
        require_same_run(tmp_path, EXPLAIN_FILES, now)
    assert message in str(caught.value) and "--force" in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]", "7", '{"model": 5}', '{"model": "net", "version": "1"}', "[" * 100_000])
def test_a_damaged_description_is_a_usage_error(tmp_path, content):
    (tmp_path / ".lrp").mkdir()
    (tmp_path / ".lrp" / "run.json").write_text(content)
    with pytest.raises(UsageError, match="is damaged"):
        read_description(tmp_path, EXPLAIN_FILES)
