"""lrp tune as a whole: what it prints and writes, what it does when time is short, and what it refuses."""

import csv
import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

import lrpcli
from lrpcli.cli.tune import tune
from lrpcli.lrp.composites.composite import builtin_names
from lrpcli.lrp.composites.default import DEFAULT_CONFIG
from lrpcli.tuning.files import FILES, write_files
from lrpcli.tuning.report import report
from lrpcli.tuning.run import Stopped
from tests.photos import folder_of_photos, photo
from tests.resilience.runs import environment, lrp
from tests.tuning.tunings import STEPS, evaluator_of, photos_of, tuning

SAMPLES = Path(__file__).resolve().parents[2] / "sample_images"
QUICK = ("--model", "cifar10", "--candidates", 5, "--steps", 6, "--region", 8, "--minutes", 1000, "--device", "cpu")


def texts_in(folder):
    return {name: (folder / name).read_text() for name in FILES}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tuning of the sample images with the bundled net: its folder and what was printed."""
    out = tmp_path_factory.mktemp("tuned") / "out"
    result = lrp("tune", *QUICK, SAMPLES, "-o", out)
    assert result.exit_code == 0, result.output
    return out, result


@pytest.fixture(scope="module")
def summary(made):
    return json.loads((made[0] / "tune.json").read_text())


def test_what_is_printed_fits_a_terminal_and_says_what_was_gained(made, summary):
    out, result = made
    lines = result.stdout.splitlines()
    assert all(len(line) <= 80 or line.startswith("  lrp explain") for line in lines)
    assert lines[0].startswith("10 images: 5 searched, 5 held out.")
    table = result.stdout.split("\n\n")[1].splitlines()
    assert table[0].split() == ["split", "lower", "eps", "first", "lrn", "start", "ABPC", "r", "fails"]
    assert 3 <= len(table) <= 15 and any(f"{DEFAULT_CONFIG} (the default)" in line for line in table)
    said = " ".join(result.stdout.split())
    assert summary["verdict"] in said and "5 held-out images" in summary["verdict"]
    assert "Too few held-out images for an interval, which needs 20." in said
    for guard in ("order: MoRF", "class: cosine", "kept: median"):
        assert guard in said
    assert f"lrp explain --model cifar10 --config {out / 'tuned.toml'} INPUT... OUTPUT" in result.stdout
    assert "10 images: 10 read;" in result.stderr


def test_every_candidate_is_in_the_files(made, summary):
    out, _ = made
    names = [candidate["name"] for candidate in summary["candidates"]]
    same = [name for candidate in summary["candidates"] for name in candidate["same_as"]]
    assert names[0] == DEFAULT_CONFIG and set(builtin_names()) <= {*names, *same}
    assert sum(not candidate["built_in"] for candidate in summary["candidates"]) == 5
    assert all(candidate["rounds"] for candidate in summary["candidates"])
    with (out / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    searched = [row for row in rows if row["part"] == "search"]
    assert {row["candidate"] for row in searched} == set(names)
    assert len(searched) == sum(len(candidate["rounds"]) for candidate in summary["candidates"])
    for candidate in summary["candidates"]:
        mine = [row for row in searched if row["candidate"] == candidate["name"]]
        for row, found in zip(mine, candidate["rounds"], strict=True):
            assert (int(row["round"]), int(row["images"])) == (found["round"], found["images"])
            assert row["abpc"] == ("" if found["abpc"] is None else str(found["abpc"]))
            assert row["failed"].split() == found["failed"]
    checked = {row["candidate"] for row in rows if row["part"] == "held-out"}
    assert checked == {summary["best"], DEFAULT_CONFIG}


def test_the_search_never_sees_a_held_out_image(summary):
    searched, held_out = summary["images"]["search"], summary["images"]["held_out"]
    assert len(searched) == 5 and len(held_out) == 5 and not set(searched) & set(held_out)
    assert all(found["images"] <= 5 for candidate in summary["candidates"] for found in candidate["rounds"])


def test_the_config_can_be_checked_and_explains_as_the_candidate_did(made, summary, tmp_path):
    out, _ = made
    checked = lrp("configs", "check", out / "tuned.toml")
    assert checked.exit_code == 0, checked.output
    result = lrp("explain", "--model", "cifar10", "--config", out / "tuned.toml", SAMPLES / "dog.webp", "-o", tmp_path,
                 "--save", "map")  # fmt: skip
    assert result.exit_code == 0, result.output
    chosen = next(candidate for candidate in summary["candidates"] if candidate["name"] == summary["chosen"])
    model = lrpcli.load_model("cifar10")
    from PIL import Image

    x, _ = model.preprocess(Image.open(SAMPLES / "dog.webp"))
    expected = lrpcli.Explainer(model, tomllib.loads(chosen["config"]), device="cpu")(x).relevance.sum((0, 1)).numpy()
    found = np.load(tmp_path / "dog.webp.npy")
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_the_config_says_where_it_comes_from(made, summary):
    text = (made[0] / "tuned.toml").read_text()
    source = tomllib.loads(text)["source"]
    model = lrpcli.load_model("cifar10")
    assert "cifar10" in source and model.weights_sha256 in source
    assert "5 images searched and 5 held out" in source
    assert f"# {summary['verdict']}" in text.splitlines()
    assert all(f"# Guard {guard}: " in text for guard in ("order", "class", "kept"))


@pytest.mark.slow
def test_the_same_command_writes_the_same_bytes(made, tmp_path):
    out, _ = made
    again = lrp("tune", *QUICK, SAMPLES, "-o", tmp_path / "again", "-j", 1)
    assert again.exit_code == 0
    assert texts_in(tmp_path / "again") == texts_in(out)


@pytest.mark.slow
def test_json_is_one_object(tmp_path):
    folder = folder_of_photos(tmp_path / "in", 8)
    (folder / "broken.png").write_bytes(b"no picture")
    result = lrp("tune", *QUICK, "--candidates", 1, folder, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 1
    (line,) = result.stdout.splitlines()
    found = json.loads(line)
    assert found["type"] == "summary" and (found["ok"], found["failed"]) == (8, 1)
    assert found["results"] == json.loads((tmp_path / "out" / "tune.json").read_text())
    (failed,) = found["results"]["images"]["failed"]
    assert failed["input"].endswith("broken.png") and "decode: " in result.stderr


REFUSALS = [
    (("in", "-o", "out"), "at least 8 different images"),
    (("-o", "out"), "No input is given"),
    (("in", "-o", "out", "--minutes", "0"), "minutes"),
    (("in", "-o", "out", "--minutes", "nan"), "is no number"),
    (("in", "-o", "out", "--candidates", "0"), "candidates"),
    (("in", "-o", "out", "--images", "7"), "images"),
    (("in", "-o", "out", "--seed", "-1"), "seed"),
    (("in", "-o", "out", "--fill", "blurr"), "Did you mean 'blur'?"),
    (("in", "-o", "out", "--config", "epsilon"), "No such option"),
    (("in", "-o", "out", "--shard", "1/2"), "No such option"),
    (("nowhere", "-o", "out"), "nowhere"),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSALS, ids=lambda value: " ".join(value)[:40])
def test_misuse_is_refused_with_a_sentence(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of_photos(tmp_path / "in", 7)
    result = lrp("tune", *arguments)
    assert result.exit_code == 2 and sentence in result.output
    assert not (tmp_path / "out").exists()


def test_images_that_fail_can_leave_too_few(tmp_path):
    folder = folder_of_photos(tmp_path / "in", 7)
    (folder / "broken.png").write_bytes(b"no picture")
    result = lrp("tune", *QUICK, folder, "-o", tmp_path / "out")
    assert result.exit_code == 2 and "there are 7. Name more images" in result.stderr
    assert "decode: " in result.stderr and list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", FILES)
def test_an_earlier_tuning_is_replaced_by_force_alone(name, tmp_path):
    folder = folder_of_photos(tmp_path / "in", 8)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("before")
    refused = lrp("tune", *QUICK, folder, "-o", tmp_path / "out")
    assert refused.exit_code == 2 and "holds a tuning already" in refused.stderr and "--force" in refused.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    assert (tmp_path / "out" / name).read_text() == "before"


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_the_place_of_a_file_is_refused_before_the_work(name, tmp_path):
    (tmp_path / "out" / name).mkdir(parents=True)
    result = lrp("tune", *QUICK, SAMPLES, "-o", tmp_path / "out", "--force")
    assert result.exit_code == 3 and f"{name}' is a folder" in result.stderr


@pytest.mark.slow
def test_force_replaces_a_tuning(tmp_path):
    folder = folder_of_photos(tmp_path / "in", 8)
    (tmp_path / "out").mkdir()
    for name in FILES:
        (tmp_path / "out" / name).write_text("before")
    result = lrp("tune", *QUICK, "--candidates", 1, folder, "-o", tmp_path / "out", "--force")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    assert "before" not in texts_in(tmp_path / "out").values()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_known_before_the_work(tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    result = lrp("tune", *QUICK, SAMPLES, "-o", tmp_path / "out")
    assert result.exit_code == 3 and "cannot be written" in result.stderr


INTERRUPTED = """
import os, signal
from lrpcli.tuning import measuring
usual = measuring.Bench._guards
def guards(self, *arguments):
    os.kill(os.getpid(), signal.SIGINT)
    return usual(self, *arguments)
measuring.Bench._guards = guards
from lrpcli.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("before", [False, True], ids=["fresh", "force"])
def test_an_interrupt_leaves_whole_files_and_ends_by_the_signal(before, tmp_path):
    folder, out = folder_of_photos(tmp_path / "in", 8), tmp_path / "out"
    if before:
        out.mkdir()
        for name in FILES:
            (out / name).write_text("before")
    line = [sys.executable, "-c", INTERRUPTED, "tune", *map(str, QUICK), str(folder), "-o", str(out), "--force"]
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == -signal.SIGINT, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert sorted(path.name for path in out.iterdir()) == (sorted(FILES) if before else [])
    assert not before or set(texts_in(out).values()) == {"before"}


def test_a_tuning_stops_within_a_batch(tmp_path):
    class Stop:
        """Set once so many passes are made."""

        def __init__(self):
            self.asked = 0

        def is_set(self):
            self.asked += 1
            return self.asked > 30

    stop, passes, run = Stop(), [], tuning(tmp_path / "out")
    with pytest.raises(Stopped):
        run.tune(photos_of(run.evaluator, tmp_path, 8), stop, lambda what, count: passes.append(count))
    assert stop.asked == 31 and len(passes) == 30


class Counting:
    """A clock that passes through the net move on, a second each."""

    now = 0.0

    def __call__(self):
        return self.now

    def watch(self, what, count):
        self.now += count


def timed(folder, photos, seconds):
    """A tuning that may make so many passes, and the passes that it made."""
    clock = Counting()
    run = tuning(folder, evaluator_of(), minutes=seconds / 60, candidates=4, clock=clock)
    return run, run.tune(photos, watch=clock.watch), clock.now


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1, 300, 1500, 4000, 8000, 10**6])
def test_short_of_time_it_says_what_it_did_not_do(seconds, tmp_path):
    photos = photos_of(evaluator_of(), tmp_path, 12)
    run, tuned, passes = timed(tmp_path / "out", photos, seconds)
    first = 2 * 4 * (2 + 2 * STEPS) + 4 * STEPS  # the first images of the held-out check are measured in any case
    assert passes <= max(seconds, first) + run.evaluator.batch_size + first
    summary = write_files(run, tuned, [])
    planned = 1 + len(tuned.candidates.others)
    for number, measured in enumerate(tuned.rounds, 1):
        short = len(measured.scores) < measured.planned.candidates + 1
        assert short == any(note.startswith(f"Round {number} measured {len(measured.scores)} of ")
                            for note in summary["notes"])  # fmt: skip
    reached = [candidate for candidate in summary["candidates"] if candidate["rounds"]]
    assert len(reached) == (len(tuned.rounds[0].scores) if tuned.rounds else 0)
    rows = (tmp_path / "out" / "table.csv").read_text().splitlines()
    assert sum("not reached" in row for row in rows) == planned - max(len(reached), 1)
    compared = any(measured.compares for measured in tuned.rounds)
    assert compared or tuned.best is tuned.candidates.default
    assert compared != ("nothing is known of a better one" in summary["verdict"])
    said = report(tuned, tmp_path / "out")
    for note in summary["notes"]:
        assert " ".join(note.split()) in " ".join(said.split())
    if seconds == 1:
        assert not compared and len(reached) == 0 and tuned.held_out.best.images == 4
    if seconds == 10**6:
        assert len(reached) == planned and tuned.held_out.best.images == 6 and len(summary["notes"]) == 1


def test_where_the_default_wins_the_config_is_its_own_rules_and_says_so(tmp_path):
    run, tuned, _ = timed(tmp_path / "out", photos_of(evaluator_of(), tmp_path, 8), 1)
    write_files(run, tuned, [])
    text = (tmp_path / "out" / "tuned.toml").read_text()
    found, default = lrpcli.load_composite(str(tmp_path / "out" / "tuned.toml")), lrpcli.load_composite(DEFAULT_CONFIG)
    assert found.entries == default.entries and found.start == default.start and found.bias == default.bias
    assert "tuned.toml holds the default's own rules" in text and DEFAULT_CONFIG in found.source


@pytest.mark.slow
def test_the_best_of_the_last_round_is_checked_with_an_interval(tmp_path, monkeypatch):
    monkeypatch.setattr("lrpcli.tuning.candidates.DEFAULT_CONFIG", "epsilon")  # one that can be beaten
    run = tuning(tmp_path / "out", candidates=2)
    tuned = run.tune(photos_of(evaluator_of(), tmp_path, 40))
    summary = write_files(run, tuned, [])
    scores = dict(tuned.rounds[-1].scores)
    assert all(len(found.curves.morf) == 20 for found in scores.values())
    assert tuned.best is min(scores, key=lambda candidate: scores[candidate].key)
    assert tuned.best is not tuned.candidates.default and tuned.held_out.best.images == 20
    gain = tuned.held_out.gain
    assert gain.low < gain.mean < gain.high
    assert f"{gain.mean:+.3f} [{gain.low:.3f}, {gain.high:.3f}] on 20 held-out images" in summary["verdict"]
    assert ("may be chance" in summary["verdict"]) == (tuned.chosen is tuned.best and gain.low <= 0 <= gain.high)
    assert (tuned.chosen is tuned.best) == (tuned.held_out.best.key < tuned.held_out.default.key)
    assert summary["notes"] == []


def test_a_single_output_has_no_second_class(tmp_path):
    from dataclasses import replace

    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(),
                              torch.nn.Linear(4 * 30 * 30, 1))  # fmt: skip
    model = replace(lrpcli.load_model("cifar10"), module=net.eval(), outputs=1, labels=None)
    evaluator = evaluator_of(model)
    tuned = tuning(tmp_path / "out", evaluator, candidates=3).tune(photos_of(evaluator, tmp_path, 8))
    assert set(tuned.limits.starts) <= {"logit", "one"} and not tuned.limits.lrn
    assert all("class" not in scores.failed for measured in tuned.rounds for _, scores in measured.scores)
    said = report(tuned, tmp_path / "out")
    assert "the net has a single class" in " ".join(said.split()) and " lrn " not in said.splitlines()[2]


def test_names_of_any_kind_do_no_harm(tmp_path):
    from dataclasses import replace

    model = replace(lrpcli.load_model("cifar10"), name='a"]\n[kind]\x1b[2J\udcff')
    evaluator = evaluator_of(model)
    run = tuning(tmp_path / "out", evaluator, candidates=1)
    photos = photos_of(evaluator, tmp_path, 8)
    named = [replace(item, input=f"\udcfe\n{number}") for number, item in enumerate(photos)]
    tuned = run.tune(named)
    write_files(run, tuned, [])
    assert "kind" in tomllib.loads((tmp_path / "out" / "tuned.toml").read_text())
    json.loads((tmp_path / "out" / "tune.json").read_text())
    assert "\x1b" not in report(tuned, tmp_path / "out")


def test_the_command_names_the_options_of_the_model(tmp_path):
    from lrpcli.cli.tune import _model_options

    arguments = ["in", "-o", "out", "--model", "my net.onnx", "--input-shape", "3,8,8", "--pixel-scale", "1/4"]
    context = tune.make_context("tune", arguments)
    assert _model_options(context) == ["--model", "my net.onnx", "--input-shape", "3,8,8", "--pixel-scale", "0.25"]
    assert _model_options(tune.make_context("tune", ["in", "-o", "out"])) == []


@pytest.mark.slow
def test_photos_are_drawn_where_there_are_many(tmp_path):
    for number in range(12):
        photo(tmp_path / "in" / f"{number}.png", number)
    result = lrp("tune", *QUICK, "--candidates", 1, "--images", 9, tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    images = json.loads((tmp_path / "out" / "tune.json").read_text())["images"]
    assert len(images["search"]) == 5 and len(images["held_out"]) == 4
