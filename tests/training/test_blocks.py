"""Blocks of a net without biases: their weights are centred on the mean input, and fold into weights alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from training.fit import Recipe, Run, whole_batches
from training.layout import Conv, Layout, Linear, Pool, Relu
from training.network import BiasFreeBlock, ScaleNorm, TrainingNet

LAYERS = {
    "convolution": (nn.Conv2d(6, 8, 3, stride=2, padding=2, groups=2, bias=False), (5, 6, 9, 8)),
    "point": (nn.Conv2d(6, 8, 1, bias=False), (5, 6, 4, 3)),
    "linear": (nn.Linear(12, 8, bias=False), (20, 12)),
}
SMALL = Layout(
    "small", 24,
    (
        Conv("conv1", 4, kernel=3, bias=False), Relu("relu1"), Pool("pool1"),
        Conv("conv2", 4, kernel=3, pad=1, bias=False), Relu("relu2"), Linear("fc3", 3, bias=False),
    ),
)  # fmt: skip


def block_of(kind, *, centre=True, shift=0.0):
    """A block in float64 whose every parameter and buffer is drawn, and a batch for it with a mean that counts."""
    torch.manual_seed(7)
    layer, shape = LAYERS[kind]
    block = BiasFreeBlock(layer, 3.0, centre=centre).double()
    with torch.no_grad():
        block.linear.weight.normal_()
        block.scale.weight.uniform_(0.5, 2)
        block.scale.running_square.uniform_(0.5, 2)
        if centre:
            block.shift.fill_(shift)
            block.running_mean.uniform_(-1, 3)
    return block, torch.randn(shape, dtype=torch.float64).relu() * torch.linspace(1, 9, shape[1]).view(
        -1, *[1] * (len(shape) - 2)
    )


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_folded_weights_equal_the_block_in_evaluation_mode(kind, centre):
    block, x = block_of(kind, centre=centre, shift=0.7)
    folded = block.eval().folded()
    assert set(folded) == {"weight"} and folded["weight"].dtype == torch.float64
    plain = functional.linear if kind == "linear" else functional.conv2d
    layer = block.linear
    more = {} if kind == "linear" else {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
    torch.testing.assert_close(plain(x, folded["weight"], **more), block(x), rtol=1e-10, atol=1e-10)


def loop_row(row, mean, shift):
    """One row of weights (inputs, ...) without its part along the mean input, and with one of the length that is set.

    The new part is `shift` times the root mean square of what is left, along the mean input.
    """
    taps = row[0].numel()
    values = row.reshape(-1).tolist()
    along = [value for value in mean.tolist() for _ in range(taps)]
    length = sum(value * value for value in along) ** 0.5
    inner = sum(a * b for a, b in zip(values, along, strict=True)) / length**2
    left = [a - inner * b for a, b in zip(values, along, strict=True)]
    size = (sum(value * value for value in left) / len(left)) ** 0.5
    return [a + shift * size * b / length for a, b in zip(left, along, strict=True)]


@pytest.mark.parametrize("kind", LAYERS)
def test_centred_weights_equal_a_loop(kind):
    block, _ = block_of(kind)
    weight, groups = block.linear.weight.detach(), block.groups
    mean = torch.linspace(0.5, 4, weight.shape[1] * groups, dtype=torch.float64)
    with torch.no_grad():
        block.shift.copy_(torch.tensor(shifts := torch.linspace(-1, 2, len(weight)).tolist()))
        found = block.centred(weight, mean)
    for place, row in enumerate(weight):
        group = place * groups // len(weight)
        part = mean.view(groups, -1)[group]
        expected = torch.tensor(loop_row(row, part, shifts[place]), dtype=torch.float64)
        torch.testing.assert_close(found[place].reshape(-1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["point", "linear", "constant"])
@torch.no_grad()
def test_the_mean_output_over_a_batch_is_what_shift_says(kind):
    """Without padding; larger kernels on images that are the same everywhere, for which borders change no mean."""
    block, x = block_of("point" if kind == "constant" else kind)
    block, x = block.float(), x.float()  # as in training
    if kind == "constant":
        torch.manual_seed(8)
        block = BiasFreeBlock(nn.Conv2d(6, 8, 3, groups=2, bias=False), 3.0, centre=True)
        x = x[:, :, :1, :1].expand(-1, -1, 5, 5)
    axes = [0, *range(2, x.ndim)]
    means, sizes = block(x).mean(axes), block(x).square().mean(axes).sqrt()
    assert float((means / sizes).abs().max()) < 1e-5
    assert float((block.scale(block.linear(x)).mean(axes) / sizes).abs().max()) > 0.05
    block.shift.copy_(torch.linspace(-2, 2, 8))
    assert torch.equal(block(x).mean(axes).sign(), block.shift.sign())


def test_running_means_approach_those_of_the_batches():
    block, x = block_of("linear")
    block, x = block.float(), x.float()
    before = block.running_mean.clone()
    block(x)
    torch.testing.assert_close(block.running_mean, 0.9 * before + 0.1 * x.mean(0), rtol=1e-6, atol=1e-6)
    kept = block.running_mean.clone()
    block.eval()(x)
    assert torch.equal(block.running_mean, kept)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_block_trains_in_float64(kind):
    block, x = block_of(kind)
    block.train()(x).square().sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in block.parameters())


def test_a_block_of_which_nothing_is_centred_keeps_its_rows():
    block, x = block_of("point", centre=False)
    block, x = block.float(), x.float()
    assert not hasattr(block, "shift")
    expected = ScaleNorm(8)
    with torch.no_grad():
        expected.weight.copy_(block.scale.weight)
        torch.testing.assert_close(block(x), 3 * expected(block.linear(x)))


def test_epochs_are_cut_into_whole_batches():
    """A rest is left out, as a compiled net is made for one size; fewer photos than a batch are one batch."""
    assert [part.tolist() for part in whole_batches(torch.arange(7), 3)] == [[0, 1, 2], [3, 4, 5]]
    assert [part.tolist() for part in whole_batches(torch.arange(6), 3)] == [[0, 1, 2], [3, 4, 5]]
    assert [part.tolist() for part in whole_batches(torch.arange(3), 3)] == [[0, 1, 2]]
    assert [part.tolist() for part in whole_batches(torch.arange(2), 3)] == [[0, 1]]


@pytest.mark.slow
def test_a_fast_run_makes_a_step_that_is_nearly_that_of_a_usual_one(monkeypatch):
    """Traced as torch.compile traces, forward and backward; only that kernels are written in C++ is left out."""
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda net, **options: whole(net, **options, backend="aot_eager"))
    pixels, label = torch.randint(256, (8, 3, 24, 24), dtype=torch.uint8), torch.arange(8) % 3
    recipe = Recipe(epochs=1, batch=8, shift=0, plain_part=1.0)
    losses, weights = [], []
    for fast in (False, True):
        torch.manual_seed(3)
        run = Run(TrainingNet(SMALL), recipe, torch.full((3,), 110.0), "cpu", fast=fast)
        losses.append(run.step(pixels, label, 0.2))
        weights.append({name: tensor.detach() for name, tensor in run.net.named_parameters()})
    assert losses[1] == pytest.approx(losses[0], rel=0.05) and losses[0] != losses[1]  # another precision
    for name, one in weights[0].items():
        assert weights[1][name].dtype == torch.float32
        assert float((one - weights[1][name]).abs().max()) <= 2.1 * recipe.rate(0.2), name
