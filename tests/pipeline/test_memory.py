"""Memory that runs out while images are computed: smaller batches, and a sentence if not even one image has room."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lrpcli.errors import DeviceError, ImageError
from lrpcli.evaluation.evaluator import Measuring
from lrpcli.images.find import Source
from lrpcli.pipeline.decode import Prepared
from lrpcli.pipeline.explain import Engine

SENTENCE = "too little memory even for one image"


class Failing:
    """An explainer, and an evaluator, that raise one error for several images and another for one."""

    device, passes_per_image = torch.device("cpu"), 1

    def __init__(self, several, one):
        self.several, self.one = several, one

    def __call__(self, batch, *arguments, **keywords):
        raise self.several if len(batch) > 1 else self.one


def images(count):
    return [
        Prepared(Source(f"{n}.png", f"{n}.png"), np.zeros((3, 2, 2), np.float32), None, None, (0, 0, 2, 2), 0.0)
        for n in range(count)
    ]


def engine(failing):
    targets = SimpleNamespace(of=lambda source: None, batch=lambda classes: "top")
    return Engine(failing, targets, size=4)


WORKS = [engine, lambda failing: Measuring(failing, size=4)]


@pytest.mark.parametrize("work", WORKS, ids=["explain", "evaluate"])
@pytest.mark.parametrize("several", [MemoryError(), RuntimeError("odd")], ids=repr)
@pytest.mark.parametrize("one", [MemoryError(), RuntimeError("not enough memory: you tried")], ids=repr)
def test_no_room_for_one_image_ends_the_run(work, several, one):
    with pytest.raises(DeviceError, match=SENTENCE):
        work(Failing(several, one))(images(4))


@pytest.mark.parametrize("work", WORKS, ids=["explain", "evaluate"])
def test_another_error_is_that_of_the_image(work):
    answers = work(Failing(RuntimeError("odd"), RuntimeError("odd")))(images(4))
    assert [type(answer) for answer in answers] == [ImageError] * 4
    assert str(answers[3]) == "The relevance of '3.png' cannot be computed: odd."
