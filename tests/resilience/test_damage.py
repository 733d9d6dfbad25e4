"""Damaged records: each is done again, and none ends a run."""

import json

import numpy as np
import pytest

from lrpcli.errors import UsageError
from lrpcli.records.description import EXPLAIN_FILES, read_description
from tests.photos import photo
from tests.resilience.runs import explain, journal, lrp, rows, tree
from tests.resilience.test_evaluations import evaluate, numbers

GONE = object()
DEEP = "DEEP"
LONG = "LONG"
"""Stand for a list within lists a thousand times, and a number of 5,000 digits, which json does not write."""


def put(*keys, to):
    """Puts a value at a place in a record; GONE takes it away."""

    def damage(record):
        place = record
        for key in keys[:-1]:
            place = place[key]
        if to is GONE:
            del place[keys[-1]]
        else:
            place[keys[-1]] = to

    return damage


def scores(change):
    """Changes the scores of one curve."""

    def damage(record):
        curve = record["curves"]["epsilon"]["morf"]
        curve[:] = change(curve)

    return damage


def encoded(record):
    text = json.dumps(record).replace(json.dumps(DEEP), "[" * 1000 + "]" * 1000)
    return text.replace(json.dumps(LONG), "9" * 5000) + "\n"


BY_BOTH = [
    put("input", to=5), put("input", to=GONE), put("input", to={"bytes": 5}), put("input", to="\ud800"),
    put("name", to=GONE), put("name", to=[]), put("status", to="fine"), put("status", to=["ok"]),
    put("status", to=GONE),
    put("seconds", to="fast"), put("seconds", to=float("nan")), put("seconds", to=True),
    put("error", to={"kind": "io", "message": "No."}), put("error", to=7), put("error", to=[[]]),
    put("path", to=5), put("path", to={"bytes": []}), put("path", to=["\ud800"]),
    put("size", to="7"), put("size", to=-1), put("size", to=True), put("size", to=1.5), put("size", to=LONG),
    put("mtime_ns", to=GONE), put("mtime_ns", to={}), put("mtime_ns", to=float("inf")),
    put("content", to=5), put("content", to="x" * 32), put("content", to="0f"), put("content", to={"a": DEEP}),
    put("note", to=5), put("note", to=[]), put("time", to="now"), put("time", to=LONG), put("run", to=[]),
    put("run", to=DEEP), put("run", to="another"), put("type", to="dome"), put("type", to={}),
    put("target", to=GONE), put("target", to=True), put("target", to=-1), put("target", to=10), put("target", to=1e3),
    put("target", to="top"), put("label", to=5), put("label", to=GONE), put("label", to="\ud800"),
]  # fmt: skip
BY_EVALUATE = [
    put("curves", to=GONE), put("curves", to={}), put("curves", to=[]), put("curves", to=None), put("curves", to=DEEP),
    put("curves", "epsilon", to=GONE), put("curves", "epsilon", to={}), put("curves", "epsilon", to=[0.5] * 13),
    put("curves", "epsilon", to={"morf": [0.5] * 13}), put("curves", "epsilon", "lerf", to=GONE),
    put("curves", "epsilon", "other", to=[0.5] * 13), put("curves", "other", to={"morf": [0.5] * 13}),
    put("curves", "random", to={"morf": [0.5] * 13, "lerf": [0.5] * 13}), put("curves", "random", to=GONE),
    put("curves", "beta-1", "morf", to={"0": 0.5}), put("curves", "beta-1", "morf", to="0.5"),
    put("curves", "beta-1", "morf", to=[]), put("curves", "epsilon", "morf", to=[[0.5] * 13]),
    scores(lambda curve: curve[:-1]), scores(lambda curve: [*curve, 0.5]), scores(lambda curve: curve[:1]),
    scores(lambda curve: [*curve[:-1], None]), scores(lambda curve: [*curve[:-1], "0.5"]),
    scores(lambda curve: [*curve[:-1], True]), scores(lambda curve: [*curve[:-1], float("nan")]),
    scores(lambda curve: [*curve[:-1], float("inf")]), scores(lambda curve: [*curve[:-1], 1e308]),
    scores(lambda curve: [*curve[:-1], 10**400]), scores(lambda curve: [*curve[:-1], LONG]),
    scores(lambda curve: [*curve[:-1], 1.5]), scores(lambda curve: [*curve[:-1], -0.5]),
    scores(lambda curve: [*curve[:-1], [0.5]]), scores(lambda curve: [*curve[:-1], {}]),
    scores(lambda curve: [curve[0] / 2, *curve[1:]]), scores(lambda curve: [[value] for value in curve]),
    put("area", to=0.5), put("area", to="half"), put("area", to=float("nan")), put("area", to=[]),
    put("localisation", to=GONE), put("localisation", to=[]), put("localisation", to=None),
    put("localisation", to={"epsilon": [True, 0.5]}), put("localisation", to={"epsilon": [1, 0.5]}),
    put("localisation", to={"epsilon": 5}), put("localisation", to={"epsilon": [True]}),
    put("localisation", to={"epsilon": [True, 1e400]}),
]  # fmt: skip
BY_EXPLAIN = [
    put("outputs", to=GONE), put("outputs", to={}), put("outputs", to=[]), put("outputs", to="a.png"),
    put("outputs", "map", to=GONE), put("outputs", "map", to=5), put("outputs", "map", to="000.png.png"),
    put("outputs", "map", to="../out/000.png.npy"), put("outputs", "map", to="/dev/null"),
    put("outputs", "map", to="a\0b"), put("outputs", "map", to="x" * 5000), put("outputs", "map", to=""),
    put("outputs", "map", to="."), put("outputs", "heatmap", to="000.png.png"), put("outputs", "map", to="\ud800"),
    put("score", to=GONE), put("score", to="high"), put("score", to=float("nan")), put("score", to=True),
    put("top", to=GONE), put("top", to={}), put("top", to=[5]), put("top", to=[[1, "a"]]), put("top", to=[[1, 2, 3]]),
    put("top", to=[[True, "a", 0.5]]), put("top", to=[[1, "a", float("inf")]]), put("top", to=[[1, "\ud800", 0.5]]),
    put("relevance", to=GONE), put("relevance", to=[]), put("relevance", to=DEEP), put("relevance", "total", to=GONE),
    put("relevance", "min", to=float("nan")), put("relevance", "max", to=1e400), put("relevance", "start", to="1"),
    put("scale", to=GONE), put("scale", to=None), put("scale", to="image"), put("scale", to=float("inf")),
    put("explanations", to=[]), put("explanations", to={}), put("explanations", to=[5]), put("explanations", to=[{}]),
    put("placement", to=GONE), put("placement", to=[]), put("placement", to={"box": 5}),
    put("placement", "size", to=GONE), put("placement", "box", to=[1, 2, 3]), put("placement", "more", to=[1]),
    put("top", to=[]), put("top", to=[[1, "a", 1.5]]), put("top", to=[[10, "a", 0.5]]),
    put("top", to=[[1, "a", 0.5]] * 6),
    put("score", to=-0.5), put("placement", to={"box": ["left"]}), put("placement", to={"box": [float("nan")]}),
]  # fmt: skip


def damaged(tmp_path, run, name, damages):
    """A folder with as many results as there are ways to damage one, each of them damaged in one of the ways."""
    source, out = tmp_path / "in", tmp_path / "out"
    made = photo(source / "000.png", size=(32, 32))
    for number in range(1, len(damages) + 1):
        photo(source / f"{number:03}.png", number, (32, 32))
    assert made and run(source, out).returncode == 0
    written = journal(out, name)
    done = [line for line in written if line["type"] == "done"]
    assert len(done) == len(damages) + 1
    for line, damage in zip(done[1:], damages, strict=True):
        damage(line)
    (out / ".lrp" / name).write_bytes("".join(map(encoded, written)).encode())
    return source, out


def require_done_again(result, damages):
    """All but the first, which is whole."""
    assert result.returncode == 0 and b"bug" not in result.stderr, result.stderr
    found = [row["status"] for row in rows(result) if row["type"] == "image"]
    skipped = [number for number, status in enumerate(found) if status == "skipped"]
    assert len(found) == len(damages) + 1 and skipped == [0], skipped


def test_a_damaged_explanation_is_explained_again(tmp_path):
    damages = [*BY_BOTH, *BY_EXPLAIN]
    source, out = damaged(tmp_path, lambda *paths: explain(*paths, "-b", "32"), "journal-1-of-1.jsonl", damages)
    before = tree(out)
    counted = lrp("status", out)
    assert counted.exit_code == 0, counted.stderr
    require_done_again(explain(source, out, "--json", "-b", "32"), damages)
    assert tree(out).keys() == before.keys()
    assert {row["status"] for row in rows(explain(source, out, "--json"))[:-1]} == {"skipped"}


def test_a_damaged_measurement_is_measured_again(tmp_path):
    damages = [*BY_BOTH, *BY_EVALUATE]
    source, out = damaged(tmp_path, lambda source, out: evaluate(source, "-o", out), "evaluate-1-of-1.jsonl", damages)
    before = numbers(out)
    counted = lrp("status", out)
    assert counted.exit_code == 0, counted.stderr
    require_done_again(evaluate(source, "-o", out, "--json"), damages)
    again = numbers(out)
    assert again.keys() == before.keys() and again["images"] == before["images"]
    for one, other in zip(again["methods"], before["methods"], strict=True):
        np.testing.assert_allclose(one["metrics"]["auc"]["mean"], other["metrics"]["auc"]["mean"], rtol=1e-6)


def test_damaged_measurements_of_another_shard_have_not_ended(tmp_path):
    """Results are put together from the journals of all shards."""
    damages = [*BY_BOTH, *BY_EVALUATE][::3]
    source, out = damaged(tmp_path, lambda source, out: evaluate(source, "-o", out), "evaluate-1-of-1.jsonl", damages)
    (out / ".lrp" / "evaluate-1-of-1.jsonl").rename(out / ".lrp" / "evaluate-2-of-2.jsonl")
    (out / "results.json").unlink()
    result = evaluate(source, "-o", out, "--shard", "1/2")
    assert result.returncode == 0 and b"the shard that ends last writes the results" in result.stderr, result.stderr
    assert not (out / "results.json").exists()


DESCRIPTIONS = [
    "", "{", "[]", "7", "null", '"text"', "NaN", "{}", "[" * 100_000, "[" * 900 + "]" * 900, "\ud800", "\x00",
    "9" * 5000,
    *({"model": value} for value in (5, None, [], {}, "\ud800", True)), {"model": GONE},
    *({"version": value} for value in (5, None, [], 1.5)), {"version": GONE},
    *({"preprocessing": value} for value in (5, None, [], "x", DEEP, {"mean": DEEP})), {"preprocessing": GONE},
    *({"weights_sha256": value} for value in (5, [], {}, True)),
    *({"results": value} for value in ("1", 1.5, None, True, [], LONG)),
    *({"format": value} for value in ("1", 1.5, None, True, [], LONG)),
    {"methods": DEEP}, {"explain": DEEP}, {"output": {"picture": DEEP}}, {"rules": DEEP},
]  # fmt: skip


def rewritten(path, damage):
    if isinstance(damage, dict):
        kept = {**json.loads(path.read_text()), **damage}
        damage = encoded({key: value for key, value in kept.items() if value is not GONE})
    path.write_bytes(damage.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("name", ["run.json", "evaluate.json"])
def test_a_damaged_description_is_told_in_a_sentence(tmp_path, name):
    path, out = photo(tmp_path / "a.png"), tmp_path / "out"
    run = (lambda *more: explain(path, out, *more)) if name == "run.json" else (
        lambda *more: evaluate(path, "-o", out, *more))  # fmt: skip
    assert run().returncode == 0
    described = out / ".lrp" / name
    before = described.read_bytes()
    files = EXPLAIN_FILES if name == "run.json" else None
    for damage in DESCRIPTIONS if files else DESCRIPTIONS[::4]:
        described.write_bytes(before)
        rewritten(described, damage)
        if files is None:
            refused = run()
            assert refused.returncode == 2 and b"is damaged" in refused.stderr, (damage, refused.stderr)
        else:
            with pytest.raises(UsageError, match="is damaged"):
                read_description(out, files)
    assert lrp("status", out).exit_code == 2
    assert run("--force").returncode == 0


@pytest.mark.parametrize(
    "damage",
    [{"model": "other"}, {"methods": 5}, {"methods": [5, {"name": 7}, {"name": ["\u001b[2J"]}, {}]}, {"steps": 1e400},
     {"rules": {"epsilon": [[[]]]}}, {"steps": -0.0}, {"more": "\u001b[31m"}, {"seed": {"a": [None]}}],
)  # fmt: skip
def test_other_settings_are_named_whatever_they_are(tmp_path, damage):
    path, out = photo(tmp_path / "a.png"), tmp_path / "out"
    assert evaluate(path, "-o", out).returncode == 0
    rewritten(out / ".lrp" / "evaluate.json", damage)
    refused = evaluate(path, "-o", out)
    assert refused.returncode == 2 and b"made otherwise" in refused.stderr and b"\x1b" not in refused.stderr
    assert b"--force" in refused.stderr
