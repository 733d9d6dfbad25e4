"""The training package on a few made-up pictures: from a folder to a file, in seconds."""

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from lrpcli.lrp.layers.normalization import LocalResponseNorm
from training import caffenet_small, cifar10
from training.augment import Augmentation, mix, random_views, shifted_views, soften
from training.data import load_photos
from training.fit import Recipe, Run
from training.layout import Conv, Drop, Layout, Linear, Norm, Pool, Relu, cifar10_full
from training.network import ScaleNorm, TrainableNorm, TrainingNet, folded_weights, plain_net
from training.prototxt import prototxt

COLOURS = {"red_thing": (200, 40, 40), "green_thing": (40, 200, 40), "blue_thing": (40, 40, 200)}
TINY = Layout(
    "tiny",
    24,
    (
        *(Conv("conv1", 8, kernel=5, stride=2, pad=2, factor=60), Relu("relu1"), Pool("pool1"), Norm("norm1")),
        *(Conv("conv2", 8, kernel=3, pad=1, group=2, factor=60), Relu("relu2"), Pool("pool2", "AVE")),
        *(Norm("norm2", size=3, alpha=5e-5, within=True), Linear("fc3", 16, hidden=True), Relu("relu3"), Drop("drop3")),
        Linear("fc4", 3),
    ),
)

BARE = replace(TINY, layers=tuple(replace(layer, bias=False) if isinstance(layer, Conv | Linear) else layer
                                  for layer in TINY.layers))  # fmt: skip


def picture(colour, number, side=40):
    noise = np.random.default_rng(number).integers(-40, 40, (side, side + 10, 3))
    return Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def folder(tmp_path):
    for name, colour in COLOURS.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            picture(colour, number).save(tmp_path / "photos" / name / f"{number:02}.png")
    return tmp_path / "photos"


def new_run(layout, **changes):
    torch.manual_seed(3)
    recipe = Recipe(**({"epochs": 2, "batch": 8, "small_side": 16, "small_part": 0.5, "order": "BGR"} | changes))
    return Run(TrainingNet(layout), recipe, torch.tensor([100.0, 110.0, 120.0]), "cpu")


def test_command_goes_from_a_folder_to_a_file_with_its_card(folder, tmp_path, capsys):
    out = tmp_path / "net.safetensors"
    caffenet_small.main(["--data", str(folder), "--out", str(out), "--epochs", "1", "--device", "cpu"])
    with safe_open(out, "pt") as file:
        metadata, names = file.metadata(), set(file.keys())
        assert file.get_tensor("conv2.weight").shape == (160, 32, 5, 5)
        assert file.get_tensor("fc8.weight").dtype == torch.float16
    layers = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
    assert names == {f"{layer}.weight" for layer in layers}
    assert metadata["labels"].split("\n") == ["blue thing", "green thing", "red thing"]
    assert json.loads(metadata["preprocessing"])["channel_order"] == "BGR"
    assert json.loads(metadata["accuracy"])["photos"] == 6
    assert "group: 2" in metadata["prototxt"]
    assert "24 photos for training, 6 held out" in out.with_suffix(".md").read_text()
    assert "LRN removed" in capsys.readouterr().out


@pytest.mark.parametrize("layout", [TINY, BARE])
def test_folded_net_equals_the_training_net_in_evaluation_mode(folder, tmp_path, layout):
    photos = load_photos([folder], 32, tmp_path / "work")
    run = new_run(layout)
    run.fit(photos, tmp_path / "checkpoint.pt")
    net = run.net.eval()
    x = torch.rand(4, 3, 24, 24) * 255 - 110
    with torch.no_grad():
        torch.testing.assert_close(plain_net(layout, folded_weights(net))(x), net(x), rtol=1e-4, atol=1e-4)


def test_a_layout_without_biases_has_weights_alone_and_says_so(folder):
    net = new_run(BARE).net
    assert set(folded_weights(net)) == {f"{name}.weight" for name in ("conv1", "conv2", "fc3", "fc4")}
    assert prototxt(BARE).count("bias_term: false") == 4
    assert "bias_term" not in prototxt(TINY)
    half, whole = net.eval()(torch.full((1, 3, 24, 24), 1e-6)), net(torch.full((1, 3, 24, 24), 2e-6))
    torch.testing.assert_close(whole, 2 * half)  # nothing is added anywhere


def test_scale_norm_divides_by_the_root_mean_square_of_each_channel():
    norm, x = ScaleNorm(3, eps=0), torch.randn(5, 3, 4, 4) * torch.tensor([1.0, 10.0, 0.1]).view(1, 3, 1, 1) + 2
    expected = torch.stack([x[:, c] / (x[:, c] ** 2).mean().sqrt() for c in range(3)], 1)
    torch.testing.assert_close(norm(x), expected)
    running = 0.9 + 0.1 * torch.stack([(x[:, c] ** 2).mean() for c in range(3)])
    torch.testing.assert_close(norm.eval()(x), x / running.sqrt().view(1, 3, 1, 1))


def test_continued_run_equals_a_run_that_was_never_stopped(folder, tmp_path):
    photos = load_photos([folder], 32, tmp_path / "work")
    whole = new_run(TINY)
    whole.fit(photos, tmp_path / "whole.pt")
    first = new_run(TINY)
    first.one_epoch(photos)
    first.save(tmp_path / "half.pt")
    second = new_run(TINY)
    second.load(tmp_path / "half.pt")
    second.fit(photos, tmp_path / "half.pt")
    assert (second.epoch, second.images) == (whole.epoch, whole.images) == (2, 48)
    for name, tensor in whole.averaged.state_dict().items():
        assert torch.equal(tensor, second.averaged.state_dict()[name]), name


def test_a_time_budget_ends_the_run(folder, tmp_path):
    photos = load_photos([folder], 32, tmp_path / "work")
    run = new_run(TINY, epochs=None, minutes=0.01)
    run.fit(photos, tmp_path / "checkpoint.pt")
    assert run.done(0, 0) >= 1


def test_rate_rises_and_falls_to_zero():
    recipe = Recipe(epochs=1, peak=1.0, warm_part=0.2)
    rates = [recipe.rate(done) for done in (0.0, 0.1, 0.2, 0.6, 1.0, 1.5)]
    assert rates == pytest.approx([0.04, 0.52, 1.0, 0.5, 0.0, 0.0])


@pytest.mark.parametrize("layer", [Norm("n"), Norm("n", size=3, beta=0.5), Norm("n", size=3, alpha=5e-5, within=True)])
def test_trainable_norm_equals_the_one_of_the_tool(layer):
    x = torch.randn(2, 6, 5, 5) * 100
    region = "within-channel" if layer.within else "across-channels"
    reference = LocalResponseNorm(layer.size, layer.alpha, layer.beta, region=region)
    torch.testing.assert_close(TrainableNorm(layer, 6)(x), reference(x))


def test_every_fifth_photo_or_the_val_folder_is_held_out(folder, tmp_path):
    photos = load_photos([folder], 8, tmp_path / "work", skip=["red_thing"])
    assert photos.classes == ["blue_thing", "green_thing"]
    assert photos.held_out.tolist() == ([False] * 4 + [True]) * 4
    archive = tmp_path / "parts.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for part in ("train", "val"):
            file.write(folder / "red_thing" / "00.png", f"set/{part}/cat/00.png")
    parts = load_photos([archive, folder], 8, tmp_path / "other")
    assert parts.held_out.tolist()[:2] == [False, True]
    assert parts.classes[0] == "cat"
    assert parts.source.bincount().tolist() == [2, 30]


def test_folders_that_show_the_same_are_one_class(tmp_path):
    for folder in ("Motorbikes", "motorcycle", "tench"):
        (tmp_path / folder).mkdir()
        picture((1, 2, 3), 1).save(tmp_path / folder / "a.png")
    assert load_photos([tmp_path], 8, tmp_path / "work").classes == ["motorcycle", "tench"]


def test_soft_photos_keep_their_size_and_lose_detail():
    pixels = torch.randint(256, (8, 3, 160, 160)).float()
    soft = soften(pixels, Augmentation(soft=0.5))
    roughness = [(photo[:, 1:] - photo[:, :-1]).abs().mean().item() for photo in soft]
    assert soft.shape == pixels.shape
    assert sum(value < 60 for value in roughness) == 4
    assert torch.equal(soften(pixels, Augmentation()), pixels)


def test_folder_without_images_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no image in"):
        load_photos([tmp_path], 8, tmp_path)


def test_tiles_of_a_sheet_are_read_row_by_row(tmp_path):
    tiles = np.arange(6, dtype=np.uint8).reshape(2, 3).repeat(32, 0).repeat(32, 1) * 40
    data = io.BytesIO()
    Image.fromarray(np.stack([tiles] * 3, 2)).save(data, "png")
    archive = tmp_path / "sheets.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("train/cat.png", "test/cat.png", "train/ape.png", "test/ape.png"):
            file.writestr(name, data.getvalue())
    photos = cifar10.cifar_photos([archive], tmp_path)
    assert photos.classes == ["ape", "cat"]
    assert photos.held_out.sum() == 12
    assert photos.pixels[:6, 5, 7, 0].tolist() == [0, 40, 80, 120, 160, 200]


def test_views_without_changes_are_the_photo_or_its_mirror_image():
    pixels = torch.randint(256, (16, 3, 12, 12), dtype=torch.uint8)
    still = Augmentation(area=(1, 1), aspect=1, rotation=0, colour=0)
    for views in (random_views(pixels, 12, still), shifted_views(pixels, 0)):
        mirrored = [
            torch.allclose(view, photo.float().flip(2), atol=0.1) for view, photo in zip(views, pixels, strict=True)
        ]
        same = [torch.allclose(view, photo.float(), atol=0.1) for view, photo in zip(views, pixels, strict=True)]
        assert all(a != b for a, b in zip(same, mirrored, strict=True))
        assert any(same)
        assert any(mirrored)


@pytest.mark.parametrize("settings", [Augmentation(cutmix=1), Augmentation(cutmix=0), Augmentation(cutmix=0, mixup=0)])
def test_share_says_how_much_of_a_mixed_photo_is_its_own(settings):
    views = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 20, 20)
    mixed, partner, share = mix(views, settings)
    expected = share * views + (1 - share) * views[partner]
    torch.testing.assert_close(mixed.mean((1, 2, 3)), expected.mean((1, 2, 3)))


def test_prototxt_has_the_geometry_that_the_tool_knows():
    shipped = Path(__file__).parents[2] / "lrpcli/models/zoo/architectures/cifar10-full.prototxt"
    lines = [line for line in shipped.read_text().splitlines() if line.startswith(("layer", "input"))]
    text = prototxt(replace(cifar10_full(bias=True), name="CIFAR10_full"))
    assert [line.split() for line in text.splitlines()[1:]] == [line.split() for line in lines]
