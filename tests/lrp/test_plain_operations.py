"""Every line of plain_operations: its forward pass, its relevance by LRP-0, and its gradient by torch's autograd."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lrpcli import Explainer
from lrpcli.errors import UnsupportedLayer
from lrpcli.lrp.tracing.translate import build_graph
from tests.lrp.helpers import Call, agree, image, redistributed
from tests.lrp.plain_operations import OF_ONE_SIZE, OLD, OPERATIONS, response

X = image(2, 4, 8, 8)
LRP_0 = {"kind": {"linear": {"rule": "epsilon", "epsilon": 0}}}
GRADIENT = {"kind": {"any": "gradient"}}
pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"),
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True"),
]


def net(name):
    """An operation as a model in float64."""
    operation = OPERATIONS[name][0]
    return nn.Sequential(operation if isinstance(operation, nn.Module) else Call(operation)).double().eval()


def linearised(name):
    return OPERATIONS[name][1]


def pull_back(function, x, arrived):
    """Autograd's own gradient of a function at x, times what arrived."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x), x, arrived)[0]


def flat(module):
    """What an operation puts out as logits (N, K)."""
    return nn.Sequential(module, nn.Flatten())


@pytest.mark.parametrize("name", OPERATIONS)
def test_relevance_is_that_of_the_linearised_net(name):
    module = net(name)
    with torch.no_grad():
        output = module(X.clone())
    arrived = image(*output.shape, seed=3)
    got, _ = redistributed(module, LRP_0, X, output * arrived)
    agree(got, X * pull_back(linearised(name), X, arrived), 1e-10)


@pytest.mark.parametrize("name", OPERATIONS)
def test_forward_pass_and_gradient_are_the_models_own(name):
    module = net(name)
    with torch.no_grad():
        output = module(X.clone())
    arrived = image(*output.shape, seed=3)
    got, _ = redistributed(module, GRADIENT, X, arrived)
    agree(got, pull_back(module, X, arrived), 1e-10)
    logits = Explainer(flat(module), GRADIENT, dtype=X.dtype).predict(X)
    torch.testing.assert_close(logits, output.flatten(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPERATIONS)
def test_images_of_a_batch_memory_formats_and_sizes_make_no_difference(name):
    """One explainer for two images, for each of them, for one that lies channels last, and for another size."""
    explainer = Explainer(flat(net(name)), LRP_0, dtype=X.dtype)
    target = explainer.predict(X).shape[1] // 2
    both = explainer(X, target=target)
    last = explainer(X.contiguous(memory_format=torch.channels_last), target=target)
    torch.testing.assert_close(last.relevance, both.relevance, rtol=1e-10, atol=1e-12)
    if name in OF_ONE_SIZE:
        return
    for number in range(2):
        alone = explainer(X[number : number + 1], target=target)
        torch.testing.assert_close(alone.relevance[0], both.relevance[number], rtol=1e-10, atol=1e-12)
    other = image(2, 4, 12, 10, seed=5)
    one = torch.zeros_like(explainer.predict(other))
    one[:, target] = 1
    expected = other * pull_back(lambda x: linearised(name)(x).flatten(1), other, one)
    torch.testing.assert_close(explainer(other, target=target).relevance, expected, rtol=1e-9, atol=1e-10)


LOSING = {
    "cat with zeros_like", "cat with new_ones", "cat with fixed", "stack with fixed", "pad by 2", "ConstantPad2d by 3",
    "masked_fill by place", "pad by sizes", "ConstantPad2d", "unfold", "Conv2d, same, even",
}  # fmt: skip
"""Those in which a constant or a border takes a share."""


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in LOSING])
def test_relevance_is_conserved(name):
    """Of each image, where biases are ignored."""
    module = net(name)
    with torch.no_grad():
        output = module(X.clone())
    arrived = output * image(*output.shape, seed=3)
    got, _ = redistributed(module, LRP_0 | {"bias": "ignore"}, X, arrived)
    scale = arrived.flatten(1).abs().sum(1)
    assert float(((got.flatten(1).sum(1) - arrived.flatten(1).sum(1)) / scale).abs().max()) < 1e-9


def test_ties_go_to_the_first():
    """In every spelling of a maximum; counted by hand."""
    x = torch.tensor([[1.0, 3.0, 3.0, 2.0, 3.0, 0.0]], dtype=torch.float64)
    first = torch.tensor([[0.0, 1, 0, 0, 0, 0]], dtype=x.dtype)
    for function in (
        lambda x: x.amax(1, keepdim=True), lambda x: x.max(1, True)[0], lambda x: -(-x).amin(1, keepdim=True),
        lambda x: -(-x).min(1, keepdim=True).values, lambda x: functional.max_pool1d(x[:, None], 6)[:, 0],
        lambda x: functional.adaptive_max_pool1d(x[:, None], 1)[:, 0],
        lambda x: x.view(1, 2, 3).amax((1, 2), keepdim=True).flatten(1),
        lambda x: torch.stack([x[:, 1:2], x[:, 2:3], x[:, 4:5]]).max(0)[0],
        lambda x: torch.max(torch.max(x[:, 1:2], x[:, 2:3]), x[:, 4:5]),
        lambda x: functional.max_pool3d(x.view(1, 1, 1, 2, 3), (1, 2, 3)).flatten(1),
    ):  # fmt: skip
        got, arrived = redistributed(Call(function), {}, x)
        torch.testing.assert_close(got, first * arrived)


@pytest.mark.parametrize(("function", "total"), [
    (lambda x: x.amax((2, 3)), lambda x: x.sum((2, 3))),
    (lambda x: x.amin(1, keepdim=True), lambda x: x.sum(1, keepdim=True)),
    (lambda x: functional.max_pool1d(x.flatten(2), 3, 2, 1),
     lambda x: 3 * functional.avg_pool1d(x.flatten(2), 3, 2, 1)),
    (lambda x: functional.max_pool3d(x.unsqueeze(1), 2), lambda x: 8 * functional.avg_pool3d(x.unsqueeze(1), 2)),
    (lambda x: functional.max_pool2d(x, x.size()[2:]), lambda x: x.sum((2, 3), keepdim=True)),
    (lambda x: functional.adaptive_max_pool3d(x.unsqueeze(1), (1, 2, 4)),
     lambda x: x.view(2, 1, 4, 2, 4, 4, 2).sum((2, 4, 6)).unsqueeze(2)),
])  # fmt: skip
def test_every_maximum_can_share_in_proportion(function, total):
    """The rule 'average': x times the sum of R / (sum over the window) over the windows that x lies in."""
    x = X.abs()
    got, arrived = redistributed(Call(function), {"kind": {"max-pool": "average"}}, x)
    agree(got, x * pull_back(total, x, arrived / total(x)), 1e-10)


REFUSED = {
    "softmax": (lambda x: torch.softmax(x, 1) * 2, "is a softmax in the middle of the model"),
    "log_softmax as a factor": (
        lambda x: x * x.mean((2, 3), keepdim=True).log_softmax(1),
        "is a softmax in the middle",
    ),
    "log": (lambda x: x.abs().log(), "of type log has no relevance rule"),
    "cos": (torch.cos, "of type cos has no relevance rule"),
    "reciprocal": (lambda x: 1 / (2 + x), "It divides by a signal"),
    "negative power": (lambda x: x[:, :2] * (1 + x[:, 2:] ** 2) ** -0.75, "LocalResponseNorm"),
    "quotient": (lambda x: x / (1 + x.mean((2, 3), keepdim=True)), "It divides by a signal"),
    "quotient, sign": (lambda x: x / torch.tanh(x), "It divides by a signal"),
    "normalize": (functional.normalize, "It divides by a norm"),
    "std": (lambda x: x.std((2, 3)), "It divides by a signal"),
    "norm of all": (lambda x: x * (x.norm() / x.norm()), "Name the axes of the norm"),
    "norm over images": (lambda x: torch.relu(x).div(torch.relu(x).norm(2, 0)), "It mixes the images of a batch"),
    "norm": (lambda x: x / x.norm(2, 1, keepdim=True), "It divides by a signal"),
    "factor of another signal": (lambda x: x[:, :2] * response(x[:, 2:]), "has no relevance rule"),
    "response less a number": (lambda x: x * (response(x) - 3), "A norm is known in the factor"),
    "norm as a factor": (lambda x: x * x.norm(2, 1, keepdim=True), "A norm is known in the factor"),
    "std less a number": (lambda x: x * (x.std(1, keepdim=True) - 3), "It divides by a signal"),
    "norm over std": (lambda x: x.norm(2, 1) / x.std(1), "It divides by a signal"),
    "matmul of a gate and a gate": (lambda x: x.softmax(-1) @ x.softmax(-2), "Attention has no rule here"),
    "cumsum": (lambda x: x.cumsum(1), "sums of slices"),
    "einsum": (lambda x: torch.einsum("nchw,nchw->nc", x, x), "It mixes signals"),
    "topk": (lambda x: x.topk(2, 1)[0], "Which values it takes"),
    "gather": (lambda x: x.gather(1, (x[:, :1] > 0).long()), "Which values it takes"),
    "indices": (lambda x: x.max(1)[1], "The places of maxima carry no relevance"),
    "max without axes": (lambda x: x.max(), "Name the axes of the max"),
    "sum without axes": (lambda x: x.sum(), "Name the axes of the sum"),
    "mean over images": (lambda x: x - torch.relu(x).mean(0, keepdim=True), "It mixes the images of a batch"),
    "lp_pool2d": (lambda x: functional.lp_pool2d(x, 2.0, 2), "Pool by the mean"),
    "dropout": (functional.dropout, "random also in eval mode"),
    "feature dropout": (lambda x: functional.dropout2d(x, 0.3, True), "random also in eval mode"),
    "rrelu": (lambda x: functional.rrelu(x, training=True), "random also in eval mode"),
    "long": (lambda x: x.to(torch.int64), "It rounds to whole numbers"),
    "type": (lambda x: x.type("torch.LongTensor"), "It rounds to whole numbers"),
    "type of one byte": (lambda x: x.type("torch.CharTensor"), "It rounds to whole numbers"),
    "type of a fixed tensor": (lambda x: x.type_as(torch.arange(3)), "It rounds to whole numbers"),
    "to a fixed tensor": (lambda x: x.to(torch.arange(3)), "It rounds to whole numbers"),
    "dynamic convolution": (lambda x: functional.conv2d(x, x[:1, :, :3, :3]), "must be fixed"),
    "matmul of signals": (lambda x: x @ x, "must be fixed"),
    "matmul in front": (lambda x: torch.ones(8, 8) @ x, "must be fixed"),
    "2 ** x": (lambda x: 2**x, "exponent must be a fixed number"),
    **({} if OLD else {
        "mixed bounds": (lambda x: torch.clamp(x, 0.0, x.flip(1)), "must both be layers, or both fixed"),
        "cat of a tensor": (lambda x: torch.cat(x, 1), "It must join a list of layers"),
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_sense_is_refused_by_name(name):
    function, text = REFUSED[name]
    with pytest.raises(UnsupportedLayer, match="^Layer '") as caught:
        build_graph(Call(function))
    assert text in str(caught.value)


@pytest.mark.parametrize("layer", [nn.LPPool2d(2, 2), nn.MaxUnpool2d(2), nn.FractionalMaxPool2d(2, 3)])
def test_modules_without_a_rule_are_refused_by_name(layer):
    with pytest.raises(UnsupportedLayer, match=f"Layer '0' of type {type(layer).__name__} has no relevance rule. "):
        build_graph(nn.Sequential(layer))


@pytest.mark.parametrize("cast", [
    lambda x: x.float(), lambda x: x.half(), lambda x: x.to(torch.float32), lambda x: x.to("cpu", torch.float16),
    lambda x: x.type(torch.float32), lambda x: x.bfloat16().cpu(), lambda x: x.double(),
])  # fmt: skip
def test_the_engine_keeps_its_own_number_type(cast):
    last = nn.Linear(256, 3)
    for dtype in (torch.float32, torch.float64):
        with_cast, without = (
            Explainer(nn.Sequential(nn.Flatten(), inner, last), LRP_0, dtype=dtype, check=False)(X)
            for inner in (Call(cast), nn.Identity())
        )
        assert with_cast.relevance.dtype == dtype
        torch.testing.assert_close(with_cast.relevance, without.relevance, rtol=0, atol=0)


def test_a_maximum_may_be_unpacked():
    def function(x):
        values, _ = x.max(1)
        return values

    got, arrived = redistributed(Call(function), {}, X)
    agree(got, pull_back(lambda x: x.amax(1), X, arrived), 1e-12)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_are_what_they_compute(reentrant):
    net = Call(lambda x: checkpoint(torch.relu, x, use_reentrant=reentrant))
    got, arrived = redistributed(net, {}, X)
    torch.testing.assert_close(got, arrived)


def test_a_copy_that_is_written_over_leaves_the_original():
    """A cast may copy or not: who reads the original afterwards is refused, in place of a guess."""

    def function(x):
        y = x * 2
        z = y.to(torch.float64)
        z += 1
        return z + y

    with pytest.raises(UnsupportedLayer, match="writes over its input"):
        build_graph(Call(function))
