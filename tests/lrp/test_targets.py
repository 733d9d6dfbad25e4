"""What is explained and where relevance starts: each start against its formula."""

import pytest
import torch
from torch import nn

from lrpcli import Explainer
from lrpcli.errors import UsageError
from lrpcli.lrp.targets import STARTS, choose_classes, opposite_start, start_relevance

LOGITS = torch.tensor([[2.0, -1.0, 0.5, 3.0], [0.1, 0.7, -2.0, 0.2]], dtype=torch.float64)
CLASSES = torch.tensor([3, 0])


def one_hot(values):
    return torch.zeros_like(LOGITS).scatter(1, CLASSES[:, None], values[:, None])


def test_logit_one_and_probability():
    target = LOGITS.gather(1, CLASSES[:, None])[:, 0]
    p = (LOGITS.exp() / LOGITS.exp().sum(1, keepdim=True)).gather(1, CLASSES[:, None])[:, 0]
    torch.testing.assert_close(start_relevance(LOGITS, CLASSES, "logit"), one_hot(target))
    torch.testing.assert_close(start_relevance(LOGITS, CLASSES, "one"), one_hot(torch.ones(2, dtype=torch.float64)))
    torch.testing.assert_close(start_relevance(LOGITS, CLASSES, "probability"), one_hot(p))


def test_softmax_gradient():
    """p_t (1 - p_t) on the target and -p_t p_n elsewhere: the gradient of p_t, which sums to zero."""
    logits = LOGITS.clone().requires_grad_()
    logits.softmax(1).gather(1, CLASSES[:, None]).sum().backward()
    start = start_relevance(LOGITS, CLASSES, "softmax-gradient")
    torch.testing.assert_close(start, logits.grad)
    assert float(start.sum().abs()) < 1e-15


def test_the_opposite_of_a_contrastive_start():
    opposite = opposite_start(LOGITS, CLASSES)
    torch.testing.assert_close(opposite, torch.tensor([[1, 1, 1, 0], [0, 0.1 / 3, 0.1 / 3, 0.1 / 3]]).double())


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (None, [[3], [1]]),
        ("top", [[3], [1]]),
        ("top3", [[3, 0, 2], [1, 3, 0]]),
        (2, [[2], [2]]),
        ([1, 3], [[1], [3]]),
        (torch.tensor([1, 3]), [[1], [3]]),
        (torch.tensor([[0, 1], [2, 3]]), [[0, 1], [2, 3]]),
    ],
)
def test_choice_of_classes(target, expected):
    assert choose_classes(LOGITS, target).tolist() == expected


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("top5", "The target 'top5' does not fit: the model has 4 classes"),
        ("top0", "The target 'top0' does not fit"),
        ("best", "The target 'best' is not known; use 'top', 'topK' such as 'top3', or a class index."),
        ([1, 2, 3], "There are 2 images but targets for 3"),
        (4, "The target class 4 lies outside 0..3, the model's classes."),
        (-1, "The target class -1 lies outside 0..3, the model's classes."),
        (1.5, "The target must be whole class indices"),
        (torch.tensor([True, False]), "The target must be whole class indices"),
        (torch.zeros(2, 1, 1, dtype=torch.long), "The target must be whole class indices"),
        (["a", "b"], "cannot be read as class indices"),
    ],
)
def test_impossible_targets_are_refused(target, text):
    with pytest.raises(UsageError) as caught:
        choose_classes(LOGITS, target)
    assert text in str(caught.value)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4)).double().eval()


@pytest.fixture(scope="module")
def x():
    return torch.randn(3, 2, 6, 6, dtype=torch.float64)


def explained(net, x, target, **settings):
    return Explainer(net, {"kind": {"linear": {"rule": "epsilon", "epsilon": 0.1}}}, dtype=torch.float64, **settings)(
        x, target
    )


@pytest.mark.parametrize("start", STARTS)
def test_a_different_target_per_image(net, x, start):
    result = explained(net, x, [2, 0, 3], start=start)
    assert result.target.tolist() == [2, 0, 3]
    for image, target in enumerate([2, 0, 3]):
        alone = explained(net, x[image : image + 1], target, start=start)
        torch.testing.assert_close(result.relevance[image], alone.relevance[0], rtol=1e-12, atol=1e-14)


def test_several_classes_give_one_map_each(net, x):
    table = torch.tensor([[0, 3], [2, 2], [1, 0]])
    result = explained(net, x, table)
    assert result.relevance.shape == (3, 2, 2, 6, 6)
    assert result.start.shape == (3, 2)
    for k in range(2):
        alone = explained(net, x, table[:, k])
        torch.testing.assert_close(result.relevance[:, k], alone.relevance, rtol=0, atol=0)
        torch.testing.assert_close(result.conservation["0"][:, k], alone.conservation["0"], rtol=0, atol=0)


def test_a_table_of_one_class_keeps_its_axis(net, x):
    result = explained(net, x, torch.tensor([[0], [1], [2]]))
    assert result.relevance.shape == (3, 1, 2, 6, 6)
    assert result.target.tolist() == [[0], [1], [2]]
    assert explained(net, x, "top1").relevance.shape == (3, 2, 6, 6)


def test_contrastive_is_the_target_less_the_equally_scaled_others(net, x):
    """[G18]: the others' map starts from the target's logit spread over them, and is scaled to the target's total."""
    target = [2, 0, 3]
    explainer = Explainer(net, "epsilon", start="contrastive", dtype=torch.float64)
    result = explainer(x, target, keep_layers=True)
    of_target = Explainer(net, "epsilon", dtype=torch.float64)(x, target, keep_layers=True)
    others = torch.stack(
        [_of_start(net, x[i : i + 1], opposite_start(of_target.logits, of_target.target)[i]) for i in range(3)]
    )
    scale = of_target.relevance.sum((1, 2, 3)) / others.sum((1, 2, 3))
    expected = of_target.relevance - scale.view(-1, 1, 1, 1) * others
    torch.testing.assert_close(result.relevance, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(result.conservation["input"], torch.zeros(3).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(result.layers["3"].sum(1), result.conservation["3"])
    torch.testing.assert_close(result.layers["0"].sum((1, 2, 3)), result.conservation["0"])
    positive = Explainer(net, "epsilon", start="contrastive-positive", dtype=torch.float64)(x, target)
    torch.testing.assert_close(positive.relevance, expected.clamp(min=0), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(positive.conservation["input"], expected.clamp(min=0).sum((1, 2, 3)))


def signs(z):
    return torch.where(z >= 0, 1.0, -1.0).double()


def _of_start(net, x, start):
    """Relevance of the input (C, H, W) for any start relevance (classes,), by the epsilon rule written out."""
    first, last = net[0], net[3]
    z = first(x)
    hidden = z.relu().flatten(1)
    logits = last(hidden)
    share = start / (logits + 0.01 * signs(logits))
    relevance = (hidden * (share @ last.weight)).view(z.shape)
    share = relevance / (z + 0.01 * signs(z))
    return (x * torch.nn.functional.conv_transpose2d(share, first.weight))[0].detach()


def test_an_unknown_start_is_refused(net):
    with pytest.raises(UsageError, match="The start 'logits' is not known; choose one of logit, one, probability"):
        Explainer(net, start="logits")
