"""What tests of tunings share: the bundled net, photos, and a tuning that has read them."""

from pathlib import Path

import torch

import lrpcli
from lrpcli.evaluation.evaluator import Evaluator
from lrpcli.evaluation.settings import EvaluationSettings, PerturbationSettings
from lrpcli.images.find import Source
from lrpcli.tuning.photos import Photo, divide
from lrpcli.tuning.run import TuningRun
from lrpcli.tuning.settings import SearchSettings, TuningRunSettings
from tests.photos import photo

STEPS = 12


def evaluator_of(model=None, **perturbation):
    """An evaluator of the default alone, on the processor."""
    settings = PerturbationSettings(**{"steps": STEPS, "region": 8, **perturbation})
    evaluation = EvaluationSettings(perturbation=settings, device="cpu", measures=("perturbation",))
    return Evaluator(lrpcli.load_model("cifar10") if model is None else model, evaluation)


def photos_of(evaluator, folder: Path, count):
    """So many photos, as a tuning reads them."""
    found = []
    for number in range(count):
        path = str(photo(folder / f"{number}.png", number))
        prepared = evaluator.preparation(Source(path, path))
        logits = evaluator.maps.predict(torch.from_numpy(prepared.pixels)[None])[0]
        found.append(Photo(input=path, name=path, pixels=prepared.pixels, logits=logits))
    return found


def searched(evaluator, folder: Path, count=16):
    """The photos that are searched, of `count`."""
    return divide(photos_of(evaluator, folder, count), 0).search


def tuning(folder, evaluator=None, *, minutes=1e5, candidates=6, seed=0, clock=None):
    """A tuning whose clock stands still unless one is given."""
    search = SearchSettings(minutes=minutes, candidates=candidates, seed=seed)
    evaluator = evaluator_of(seed=seed) if evaluator is None else evaluator
    settings = TuningRunSettings(folder, search=search, evaluation=evaluator.settings)
    return TuningRun(settings, evaluator, clock or (lambda: 0.0))
