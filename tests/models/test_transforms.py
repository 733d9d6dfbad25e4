"""Transforms of torchvision as preprocessing: bit for bit what they do themselves, or refused by name."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models, transforms
from torchvision.transforms import InterpolationMode, v2

import lrpcli
from lrpcli.errors import ModelError
from lrpcli.images.preprocess import Preprocessing
from lrpcli.models.transforms import read_transforms

SIZE = (24, 20)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PHOTOS = [(61, 33), (33, 61), (24, 20), (19, 200), (101, 100)]
SAME = {
    "squashed": transforms.Compose([transforms.Resize(SIZE), transforms.ToTensor()]),
    "shorter side": transforms.Compose(
        [transforms.Resize(28), transforms.CenterCrop(SIZE), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    ),
    "bicubic": transforms.Compose(
        [transforms.Resize([26], InterpolationMode.BICUBIC), transforms.CenterCrop(SIZE), transforms.ToTensor()]
    ),
    "squashed and cut": transforms.Compose(
        [transforms.Resize((31, 27)), transforms.CenterCrop(SIZE), transforms.ToTensor()]
    ),
    "smaller than the crop": transforms.Compose(
        [transforms.Resize(18), transforms.CenterCrop(SIZE), transforms.ToTensor()]
    ),
    "in two steps": transforms.Compose(
        [transforms.Resize(SIZE), transforms.PILToTensor(), transforms.ConvertImageDtype(torch.float32)]
    ),
    "new": v2.Compose(
        [v2.Resize(30), v2.CenterCrop(SIZE), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
         v2.Normalize(MEAN, STD)]
    ),
    "new, 0..255": v2.Compose([v2.Resize(SIZE), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=False)]),
    "nested": transforms.Compose([transforms.Compose([transforms.Resize(SIZE)]), transforms.ToTensor()]),
    "a sequence": torch.nn.Sequential(v2.Resize(SIZE), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)),
    "no antialias, which photos have anyway": transforms.Compose(
        [transforms.Resize(SIZE, antialias=False), transforms.ToTensor()]
    ),
    "nearest": transforms.Compose([v2.Resize(SIZE, InterpolationMode.NEAREST_EXACT), transforms.ToTensor()]),
}  # fmt: skip


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def assert_same(found: Preprocessing, transform, photo: Image.Image) -> None:
    np.testing.assert_array_equal(found.apply(photo)[0], np.asarray(transform(photo)))


@pytest.mark.filterwarnings("ignore:Anti-alias option is always applied")
@pytest.mark.parametrize("transform", SAME.values(), ids=SAME)
def test_pixels_are_those_of_the_transforms(transform):
    found = read_transforms(transform, SIZE, 3)
    for size in PHOTOS:
        assert_same(found, transform, picture(*size))


def test_grey_nets():
    steps = transforms.Compose([transforms.Resize(SIZE), transforms.Grayscale(), transforms.ToTensor(),
                                transforms.Normalize((0.1307,), (0.3081,))])  # fmt: skip
    for size in PHOTOS:
        assert_same(read_transforms(steps, SIZE, 1), steps, picture(*size))
    with pytest.raises(ModelError, match="The transforms make one channel, and the model reads 3"):
        read_transforms(steps, SIZE, 3)


@pytest.mark.parametrize("weights", [models.ResNet18_Weights.DEFAULT, models.EfficientNet_B3_Weights.DEFAULT])
def test_what_the_weights_of_torchvision_bring(weights):
    steps = weights.transforms()
    size = (steps.crop_size[0], steps.crop_size[0])
    for photo in PHOTOS[:2]:
        assert_same(read_transforms(steps, size, 3), steps, picture(*photo))
    assert_same(read_transforms(steps, size, 3), steps, picture(500, 333))


T = transforms
REFUSED = {
    "Lambda": ([T.Resize(SIZE), T.Lambda(lambda x: x), T.ToTensor()], "Lambda cannot be done alike here"),
    "random": ([T.RandomResizedCrop(SIZE), T.ToTensor()], "RandomResizedCrop differs from call to call"),
    "jitter": ([T.Resize(SIZE), T.ColorJitter(0.1), T.ToTensor()], "ColorJitter cannot be done alike"),
    "max_size": ([T.Resize(28, max_size=40), T.CenterCrop(SIZE), T.ToTensor()], "Resize .* it has a max_size"),
    "resized tensors": ([T.ToTensor(), T.Resize(SIZE)], "Resize .*: on tensors it gives other pixels than on photos"),
    "not scaled": ([T.Resize(SIZE), T.PILToTensor()], "do not make a float32 tensor"),
    "normalised photo": ([T.Resize(SIZE), T.Normalize(MEAN, STD)], "Normalize .* no tensor of float32 there"),
    "normalised twice": (
        [T.Resize(SIZE), T.ToTensor(), T.Normalize(MEAN, STD), T.Normalize(MEAN, STD)], "there are two of it"
    ),
    "half": ([T.Resize(SIZE), T.PILToTensor(), T.ConvertImageDtype(torch.float16)], "makes torch.float16"),
    "grey first": ([T.Grayscale(), T.Resize(SIZE), T.ToTensor()], "made grey before it is resized"),
    "three grey channels": ([T.Resize(SIZE), T.Grayscale(3), T.ToTensor()], "three equal channels"),
    "crop first": ([T.CenterCrop(SIZE), T.ToTensor()], "cuts from a photo of any size"),
    "another size": ([T.Resize((30, 30)), T.ToTensor()], r"make images of 30 x 30, and the model reads 24 x 20"),
    "no crop": ([T.Resize(30), T.ToTensor()], r"30 pixels on the shorter side, .* CenterCrop\(\(24, 20\)\)"),
    "no size": ([T.ToTensor()], "make images of any size"),
    "nothing": ([], "do not make a float32 tensor"),
    "wrong mean": ([T.Resize(SIZE), T.ToTensor(), T.Normalize((0.5, 0.5), (1, 1))], "mean has 2 values"),
    "zero std": ([T.Resize(SIZE), T.ToTensor(), T.Normalize((0.5,), (0.0,))], "must not be 0"),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_done_alike_is_refused_by_name(steps, text):
    with pytest.raises(ModelError, match=text):
        read_transforms(transforms.Compose(steps), SIZE, 3)


def test_load_model_takes_them():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 24 * 20, 2))
    steps = SAME["shorter side"]
    model = lrpcli.load_model(net, input_shape=(3, *SIZE), preprocessing=steps)
    photo = picture(61, 33)
    assert torch.equal(model.preprocess(photo)[0][0], steps(photo))
    assert model.stated_by == "what was given"
    for wrong in (lambda photo: photo, 7, net[1]):
        with pytest.raises(ModelError, match="Preprocessing is the name of a preset, a Preprocessing, a mapping"):
            lrpcli.load_model(net, input_shape=(3, *SIZE), preprocessing=wrong)
