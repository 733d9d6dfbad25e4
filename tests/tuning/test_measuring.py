"""A tuning measures what lrp evaluate measures; guards by their definition; images divided by their pixels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import lrpcli
from lrpcli.errors import UsageError
from lrpcli.evaluation.evaluator import Evaluator
from lrpcli.images.find import Source
from lrpcli.lrp.composites.composite import load_composite, parse_composite
from lrpcli.tuning.candidates import Candidate
from lrpcli.tuning.guards import Curves, Scores, guards_in_words
from lrpcli.tuning.halving import Round
from lrpcli.tuning.held_out import gain_of
from lrpcli.tuning.measuring import Bench
from lrpcli.tuning.photos import divide
from tests.tuning.tunings import STEPS, evaluator_of, photos_of, searched


@pytest.mark.parametrize(("config", "fill"), [("composite", "noise"), ("epsilon-1", "noise"), ("epsilon", "mean")])
def test_the_numbers_are_those_of_lrp_evaluate(config, fill, tmp_path):
    evaluator = evaluator_of(fill=fill)
    photos = searched(evaluator, tmp_path, 8)
    scores = Bench(evaluator, photos, lambda count: None)(Candidate(config, load_composite(config)), Round(1, 4, STEPS))
    settings = replace(evaluator.settings, configs=(config,), measures=("perturbation", "class", "kept"))
    theirs = Evaluator(evaluator.model, settings)
    measured = theirs([theirs.preparation(Source(path, path)) for path in photos.paths], lambda count: None)
    for image, measurement in enumerate(measured):
        expected, random = measurement.metrics(config), measurement.metrics("random")
        assert scores.curves.morf[image] == pytest.approx(expected["auc"], abs=1e-6)
        assert scores.curves.lerf[image] == pytest.approx(expected["lerf_auc"], abs=1e-6)
        assert scores.curves.abpc[image] == pytest.approx(expected["abpc"], abs=1e-6)
        assert scores.curves.random[image] == pytest.approx(random["auc"], abs=1e-6)
        assert scores.second[image] == pytest.approx(expected["class_second"], abs=1e-4)
        assert scores.kept[image] == pytest.approx(expected["kept"], rel=1e-3)
    assert not scores.unsound.any()


def test_coarse_steps_are_points_of_the_full_curves(tmp_path):
    evaluator = evaluator_of()
    photos = searched(evaluator, tmp_path, 8)
    scores = Bench(evaluator, photos, lambda count: None)(
        Candidate("epsilon", load_composite("epsilon")), Round(1, 4, STEPS // 4)
    )
    theirs = Evaluator(evaluator.model, replace(evaluator.settings, configs=("epsilon",)))
    measured = theirs([theirs.preparation(Source(path, path)) for path in photos.paths], lambda count: None)
    for image, measurement in enumerate(measured):
        curves = measurement.curves["epsilon"]
        assert scores.curves.morf[image] == pytest.approx(curves["morf"][::4].mean(), abs=1e-6)
        assert scores.curves.lerf[image] == pytest.approx(curves["lerf"][::4].mean(), abs=1e-6)
        random = measurement.curves["random"]["random"]
        assert scores.curves.random[image] == pytest.approx(random[::4].mean(), abs=1e-6)


def test_nothing_is_measured_twice(tmp_path):
    evaluator, passes = evaluator_of(), []
    photos = searched(evaluator, tmp_path)
    bench, candidate = Bench(evaluator, photos, passes.append), Candidate("epsilon", load_composite("epsilon"))
    few = bench(candidate, Round(1, 3, STEPS))
    assert sum(passes) == 3 * (2 + 3 * STEPS)
    more = bench(candidate, Round(1, 8, STEPS))
    assert sum(passes) == 8 * (2 + 3 * STEPS)
    np.testing.assert_array_equal(few.curves.abpc, more.curves.abpc[:3])
    other = bench(Candidate("composite", load_composite("composite")), Round(1, 8, STEPS))
    assert sum(passes) == 8 * (2 + 3 * STEPS) + 8 * (2 + 2 * STEPS)  # the random order is every candidate's
    np.testing.assert_array_equal(other.curves.random, more.curves.random)


def test_maps_that_are_not_finite_or_explode_are_unsound(tmp_path):
    """A net whose weights cancel: with epsilon 0 it shares a logit of 1e-8 by addends of a half."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 3))
    with torch.no_grad():
        net[1].weight[:] = torch.tensor([1.0, -1.0]).repeat(3, 3 * 16 * 32)
        net[1].bias[:] = torch.tensor([1.0, 2.0, 3.0]) * 1e-8
    model = replace(lrpcli.load_model("cifar10"), module=net.eval(), outputs=3, labels=None)
    evaluator = evaluator_of(model)
    photos = searched(evaluator, tmp_path, 8)
    grey = replace(photos, pixels=torch.full_like(photos.pixels, 0.5))
    grey = replace(grey, logits=evaluator.maps.predict(grey.pixels))
    found = {}
    for epsilon in (0.0, 1.0):
        config = {"kind": {"linear": {"rule": "epsilon", "epsilon": epsilon}}}
        candidate = Candidate(str(epsilon), parse_composite(config, "mine"))
        found[epsilon] = Bench(evaluator, grey, lambda count: None)(candidate, Round(1, 4, STEPS))
    assert found[0.0].unsound.all() and "sound" in found[0.0].failed and found[0.0].abpc is None
    assert not found[1.0].unsound.any() and found[1.0].key < found[0.0].key


def scores_of(second=0.5, kept=(1.0,) * 20, areas=(0.2, 0.4, 0.6), unsound=0):
    """Scores of 20 images with the same numbers."""
    flags = np.arange(20) < unsound
    morf, random, lerf = (np.full(20, area) for area in areas)
    cosines = None if second is None else np.full(20, second)
    return Scores(cosines, np.array(kept), flags, Curves(morf, lerf, random))


@pytest.mark.parametrize(
    ("scores", "failed"),
    [
        (scores_of(), ()),
        (scores_of(second=0.9499), ()),
        (scores_of(second=0.9501), ("class",)),
        (scores_of(second=np.nan), ("class",)),
        (scores_of(second=None), ()),
        (scores_of(areas=(0.4, 0.4, 0.6)), ("order",)),
        (scores_of(areas=(0.2, 0.6, 0.6)), ("order",)),
        (scores_of(areas=(0.6, 0.4, 0.2)), ("order",)),
        (scores_of(kept=(0.3,) * 20), ("kept",)),
        (scores_of(kept=(0.31,) * 20), ()),
        (scores_of(kept=(-1.0, *(1.0,) * 19)), ()),
        (scores_of(kept=(-1.0, -1.0, *(1.0,) * 18)), ("kept",)),
        (scores_of(second=1.0, kept=(0.0,) * 20, areas=(0.5, 0.4, 0.3)), ("order", "class", "kept")),
        (scores_of(unsound=1), ("sound",)),
    ],
)
def test_guards_by_their_definition(scores, failed):
    assert scores.failed == failed
    said = " ".join(guards_in_words(scores))
    assert said.count("Fails.") == len(failed)
    for guard in failed:
        assert f"{guard}: " in said


def test_guards_are_sorted_before_abpc_and_unsound_maps_come_last():
    passing, better = scores_of(areas=(0.39, 0.4, 0.41)), scores_of(areas=(0.0, 0.4, 1.0), second=0.99)
    unsound = scores_of(areas=(0.0, 0.4, 1.0), unsound=1)
    assert sorted([unsound, better, passing], key=lambda scores: scores.key) == [passing, better, unsound]


def test_the_gain_is_paired_and_has_an_interval_from_20_images_on():
    generator = np.random.default_rng(0)
    hard = generator.normal(0, 10, 30)  # the same for both: it must not widen the interval
    default = Scores(None, np.ones(30), np.zeros(30, bool), Curves(np.zeros(30), hard, np.zeros(30)))
    gains = generator.normal(0.5, 0.1, 30)
    best = Scores(None, np.ones(30), np.zeros(30, bool), Curves(np.zeros(30), hard + gains, np.zeros(30)))
    gain = gain_of(best, default, 0)
    assert gain.mean == pytest.approx(gains.mean()) and gain.images == 30 and gain.may_be_chance is False
    spread = 1.96 * gains.std(ddof=1) / np.sqrt(30)
    assert gain.low == pytest.approx(gain.mean - spread, abs=0.02)
    assert gain.high == pytest.approx(gain.mean + spread, abs=0.02)
    few = gain_of(*(replace(side, curves=Curves(*(values[:19] for values in vars(side.curves).values())))
                    for side in (best, default)), 0)  # fmt: skip
    assert few.low is None and few.high is None and few.may_be_chance is None and few.images == 19


def test_images_are_divided_by_their_pixels_alone(tmp_path):
    photos = photos_of(evaluator_of(), tmp_path, 11)
    division = divide(photos, 0)
    assert len(division.search) == 6 and len(division.held_out) == 5
    assert not set(division.search.paths) & set(division.held_out.paths)
    again = divide(list(reversed(photos)), 0)
    assert again.search.paths == division.search.paths and again.held_out.paths == division.held_out.paths
    assert divide(photos, 1).search.paths != division.search.paths
    for part in (division.search, division.held_out):
        for place, path in enumerate(part.paths):
            mine = next(photo for photo in photos if photo.input == path)
            assert np.array_equal(part.pixels[place].numpy(), mine.pixels)
            assert torch.equal(part.logits[place], mine.logits)


def test_copies_of_an_image_count_once(tmp_path):
    photos = photos_of(evaluator_of(), tmp_path, 10)
    copies = [replace(photo, input=f"copy of {photo.input}") for photo in photos[:4]]
    division = divide([*photos, *copies], 0)
    assert sorted(division.copies) == sorted(copy.input for copy in copies)
    assert sorted((*division.search.paths, *division.held_out.paths)) == sorted(photo.input for photo in photos)
    with pytest.raises(UsageError, match=r"at least 8 different images .* there are 7\. Name more images"):
        divide([*photos[:7], *copies], 0)


@pytest.mark.parametrize(("count", "held_out"), [(8, 4), (39, 19), (40, 20), (41, 20)])
def test_half_of_the_images_are_held_out(count, held_out, tmp_path):
    photo = photos_of(evaluator_of(), tmp_path, 1)[0]
    photos = [replace(photo, input=str(n), pixels=photo.pixels + n) for n in range(count)]
    division = divide(photos, 0)
    assert len(division.held_out) == held_out and len(division.search) == count - held_out
