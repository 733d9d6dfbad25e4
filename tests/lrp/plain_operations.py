"""Operations with an obvious rule, one line each: the function, and the net that LRP-0 takes it for.

The second is left out where the function is linear or picks its winners, for then it is its own linearised net.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from tests.lrp.helpers import Call, image


def held(f):
    """An activation f of one signal: x times f(x) / x, which is held fixed."""
    return lambda x: x * (f(x) / x).detach()


def gated(signal, gate):
    """A signal and its gate, which is held fixed."""
    return lambda x: signal(x) * gate(x), lambda x: signal(x) * gate(x).detach()


def halves(a, b):
    """A product of two signals, half each."""
    return lambda x: a(x) * b(x), lambda x: (a(x) * b(x).detach() + a(x).detach() * b(x)) / 2


def front(x):
    return x[:, :2]


def back(x):
    return x[:, 2:]


def opened(x):
    return torch.sigmoid(x).detach()


def pooled(x):
    return x.mean((2, 3), keepdim=True)


def radix(x, part):
    """A part of ResNeSt's attention: a softmax over two splits."""
    attention = F.softmax(x.mean((2, 3)).view(x.size(0), 2, 2), dim=1).reshape(x.size(0), -1)
    return torch.split(attention, 2, dim=1)[part].view(-1, 2, 1, 1)


def response(x):
    """The factor of global response normalisation: the norm of each channel over the mean of all."""
    norm = x.norm(p=2, dim=(2, 3), keepdim=True)
    return norm / (norm.mean(dim=1, keepdim=True) + 1e-6)


def pooled_by(x, weights):
    """Attention pooling: places weighed by a softmax over them."""
    return x.flatten(2).unsqueeze(1) @ weights(x).unsqueeze(3)


def attention(x):
    return F.softmax(x.mean(1, keepdim=True).flatten(2), -1)


def branches(x):
    return torch.stack([x, x * 2], 1)


def kernels(x):
    """SKNet's attention: a softmax over branches."""
    return torch.stack([pooled(x), -pooled(x)], 1).softmax(1)


def fixed(*shape):
    return image(*shape, seed=9)


GAMMA, CHANNELS, MATRIX, KERNEL = fixed(4, 1, 1), fixed(4), fixed(6, 5), fixed(3, 4, 3, 3)
ONE = torch.tensor([0.2], dtype=torch.float64)


def sized(f):
    """A function of a signal and a measure of its size, which is held fixed; and the measure."""
    return lambda measure: (lambda x: f(x, measure(x)), lambda x: f(x, measure(x).detach()))


# fmt: off
NORMALISED = {
    "global response norm": sized(lambda x, m: x + torch.addcmul(GAMMA, GAMMA, x * m))(response),
    "global response norm, a sum": sized(lambda x, m: x * m * GAMMA + GAMMA + x)(response),
    "attention pooling": sized(lambda x, m: x.flatten(2).unsqueeze(1) @ m.unsqueeze(3))(attention),
    "attention pooling from the left": sized(lambda x, m: torch.matmul(m, x.flatten(2).mT))(attention),
}
ACTIVATIONS = {
    "clip": lambda x: torch.clip(x, 0.2, 0.9),
    "clip of a lower bound": lambda x: x.clip(min=-0.3),
    "clip of an upper bound": lambda x: x.clip(max=0.3),
    "clamp_min": lambda x: x.clamp_min(-0.3),
    "clamp_max": lambda x: torch.clamp_max(x, 0.4),
    "clamp_": lambda x: (x * 1).clamp_(-1, 0.3),
    "clamp between fixed tensors": lambda x: torch.clamp(x, -GAMMA.abs(), GAMMA.abs()),
    "prelu": lambda x: F.prelu(x, ONE),
    "prelu by channel": lambda x: F.prelu(x, CHANNELS),
    "softsign": F.softsign,
    "tanhshrink": F.tanhshrink,
    "hardshrink": F.hardshrink,
    "softshrink": lambda x: F.softshrink(x, 0.2),
    "threshold": lambda x: F.threshold(x, 0.1, -2.0),
    "celu": F.celu,
    "elu in place": lambda x: F.elu(x * 1, inplace=True),
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "rrelu": F.rrelu,
    "torch.abs": torch.abs,
    "abs": abs,
    "square": torch.square,
    "x ** 2": lambda x: x**2,
    "pow(3)": lambda x: x.pow(3),
    "pow by a parameter": lambda x: x.abs().pow(ONE),
    "generalised mean": lambda x: x.abs().clamp(min=1e-6).pow(ONE * 3).pow(1.0 / (ONE * 3)),
    "exp": torch.exp,
    "expm1": torch.expm1,
    "erf": torch.erf,
    "atan": torch.atan,
    "sqrt": lambda x: x.abs().sqrt(),
    "log1p": lambda x: x.abs().log1p(),
    "x * sigmoid(x)": lambda x: x * torch.sigmoid(x),
    "sigmoid(x) * x": lambda x: torch.sigmoid(x).mul(x),
    "x * relu6(x + 3) / 6": lambda x: x * F.relu6(x + 3) / 6,
    "x * (relu6(x + 3) / 6)": lambda x: x * (F.relu6(x + 3) / 6),
    "x * clamp(x + 3, 0, 6) / 6": lambda x: x * (x + 3).clamp(0, 6).div(6),
    "x * hardtanh(x + 3, 0, 6) / 6": lambda x: x * F.hardtanh(x + 3, 0.0, 6.0) / 6,
    "mish by hand": lambda x: x * torch.tanh(F.softplus(x)),
    "silu by a quotient": lambda x: x / (1 + torch.exp(-x)),
    "softsign by hand": lambda x: x / (1 + abs(x)),
    "gelu by hand": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    "gelu by hand, tanh": lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.044715 * torch.pow(x, 3)))),
    "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "x * x": lambda x: x * x,
    "leaky relu by where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "relu by where": lambda x: torch.where(x > 0, x, 0.0),
    "relu by where, zeros_like": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "threshold by where": lambda x: x.where(x > 0.1, 0.5 * torch.ones_like(x)),
    "elu by where": lambda x: torch.where(x >= 0, x, torch.expm1(x)),
    "masked_fill of negatives": lambda x: x.masked_fill(x < 0, 0.3),
    "x * (x > 0)": lambda x: x * (x > 0),
    "x * (x > 0).float()": lambda x: x * (x > 0).float(),
    "x * (both)": lambda x: x * ((x > -1) & ~(x > 1)),
    "max(x, 0)": lambda x: torch.max(x, torch.zeros(1)),
    "maximum with zeros_like": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "maximum with new_zeros": lambda x: torch.maximum(x, x.new_zeros(x.size(2), x.size(3))),
    "minimum": lambda x: torch.minimum(x, ONE),
    "leaky relu by max": lambda x: torch.max(x, 0.1 * x),
}
PRODUCTS = {
    "relu6(y + 3)": gated(front, lambda x: F.relu6(back(x) + 3)),
    "clamp(0.2 y + 0.5, 0, 1)": gated(front, lambda x: torch.clamp(0.2 * back(x) + 0.5, 0, 1)),
    "1 + sigmoid": gated(front, lambda x: 1 + torch.sigmoid(back(x))),
    "1 - sigmoid": gated(front, lambda x: 1 - torch.sigmoid(back(x))),
    "sigmoid by exp": gated(front, lambda x: 1 / (1 + torch.exp(-back(x)))),
    "sigmoid by tanh": gated(front, lambda x: 0.5 * (torch.tanh(back(x)) + 1)),
    "squeeze": gated(lambda x: x, lambda x: torch.sigmoid(x.mean((2, 3), keepdim=True))),
    "upsampled": gated(front, lambda x: F.interpolate(torch.sigmoid(F.avg_pool2d(back(x), 2)), scale_factor=2)),
    "two gates": gated(front, lambda x: torch.sigmoid(back(x)) * torch.sigmoid(pooled(front(x)))),
    "logsigmoid below": (
        lambda x: F.conv2d(F.logsigmoid(x), KERNEL), lambda x: F.conv2d(held(F.logsigmoid)(x), KERNEL)
    ),
    "softmax": gated(lambda x: x, lambda x: torch.softmax(pooled(x), 1)),
    "selective kernels": (lambda x: (branches(x) * kernels(x)).sum(1),
                          lambda x: (branches(x) * kernels(x).detach()).sum(1)),
    "radix softmax": (lambda x: sum([radix(x, 0) * front(x), radix(x, 1) * back(x)]),
                      lambda x: radix(x, 0).detach() * front(x) + radix(x, 1).detach() * back(x)),
    "glu": (lambda x: F.glu(x, 1), gated(front, lambda x: torch.sigmoid(back(x)))[1]),
    "highway": (lambda x: torch.sigmoid(front(x)) * back(x) + (1 - torch.sigmoid(front(x))) * front(x),
                lambda x: opened(front(x)) * back(x) + (1 - opened(front(x))) * front(x)),
    "two signals": halves(front, back),
    "two signals, one broadcast": halves(lambda x: x[:, :1], lambda x: x[:, 1:]),
    "tanh is a signal": (lambda x: front(x) * torch.tanh(back(x)),
                         halves(front, lambda x: held(torch.tanh)(back(x)))[1]),
    "relu6 is a signal": (lambda x: front(x) * F.relu6(back(x)), halves(front, lambda x: held(F.relu6)(back(x)))[1]),
}
SUMS = {
    "-x": lambda x: -x,
    "crelu": (lambda x: torch.cat([F.relu(x), F.relu(-x)], 1),
              lambda x: torch.cat([held(F.relu)(x), held(F.relu)(-x)], 1)),
    "sum": lambda x: x.sum((2, 3)),
    "sum, keepdim": lambda x: torch.sum(x, (2, -1), keepdim=True),
    "sum, NumPy's names": lambda x: x.sum(axis=(2, 3), keepdims=True),
    "sum over one axis": lambda x: x.sum(1),
    "mean over one axis": lambda x: x.mean(dim=1),
    "mean over all": lambda x: x.mean([1, 2, 3]).unsqueeze(1),
    "stack, sum": lambda x: torch.stack([x, x * 2, x[:, [1, 0, 2, 3]]]).sum(0),
    "stack, mean": lambda x: torch.stack((x, 3 * x), dim=-1).mean(-1),
    "stack with fixed": lambda x: torch.stack([x, torch.zeros_like(x)], 1),
    "sum([...])": lambda x: sum([x, x * 2, x.flip(3)]),
    "add, alpha": lambda x: torch.add(x, x.flip(2), alpha=0.5),
    "sub, alpha": lambda x: x.sub(x.flip(2), alpha=-2),
    "add fixed, alpha": lambda x: torch.add(x + x.flip(3), GAMMA, alpha=3),
    "rsub": lambda x: torch.rsub(x + x.flip(3), 2.0),
    "rsub, alpha": lambda x: torch.rsub(x, x.flip(1), alpha=2),
    "combination": lambda x: 0.3 * x - GAMMA * x.flip(1) / 2 + 1,
    "lerp": lambda x: torch.lerp(x, x.flip(1), 0.3),
    "ones_like": lambda x: F.leaky_relu(x) + torch.ones_like(x),
    "zeros_like - x": lambda x: torch.zeros_like(x) - x,
    "layer scale": lambda x: x + GAMMA * x.flip(2),
    "x / size": lambda x: x / x.size(2),
    "x / sqrt(size)": lambda x: x / math.sqrt(math.prod(x.shape[1:3])),
    "size * x": lambda x: x.shape[1] * x,
    "x + size": lambda x: F.leaky_relu(x) + x.size(1),
}
JOINS = {
    "cat with zeros_like": lambda x: torch.cat([x, torch.zeros_like(x)], 1),
    "cat with new_ones": lambda x: torch.cat((x.new_ones(x.size(0), 1, x.size(2), x.size(3)), x, x[:, :1]), 1),
    "cat with fixed": lambda x: torch.cat([x, fixed(2, 1, 8, 8)], 1),
    "parts joined again": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "parts stacked": lambda x: torch.stack(x.unbind(1), 2),
}
WINNERS = {
    "torch.max(a, b)": lambda x: torch.max(x, x.flip(1)),
    "torch.min(a, b)": lambda x: torch.min(x, x.flip(1)),
    "maxout": lambda x: torch.max(x[:, :2], x[:, 2:]),
    "maxout by a view": lambda x: x.unflatten(1, (2, 2)).max(2)[0],
    "max of a stack": lambda x: torch.stack([x, x.flip(1)], 1).max(1)[0],
    "minimum": lambda x: torch.minimum(x, x.flip(1)),
    "fmax": lambda x: torch.fmax(x, -x.flip(1)),
    "clamp by a tensor": lambda x: torch.clamp(x, max=x.flip(2)),
    "clamp between tensors": lambda x: torch.clamp(x, x.flip(1) - x.flip(2), x.flip(2)),
    "amax": lambda x: x.amax((2, 3)),
    "amax, keepdim": lambda x: torch.amax(x, dim=(1, 3), keepdim=True),
    "amax, NumPy's names": lambda x: torch.amax(x, axis=1, keepdims=True),
    "amin": lambda x: x.amin(1),
    "max(1)[0]": lambda x: x.max(1)[0],
    "max().values": lambda x: torch.max(x, dim=2, keepdim=True).values,
    "max, NumPy's names": lambda x: torch.max(x, axis=1, keepdims=True).values,
    "min().values": lambda x: x.min(1).values,
    "where by place": lambda x: torch.where(torch.arange(8) < 4, x, x.flip(3)),
    "where by another signal": lambda x: torch.where(x[:, :1] > 0, x[:, 1:2], x[:, 2:3]),
    "masked_fill by place": lambda x: x.masked_fill(torch.arange(8) > 5, -1.0),
}
VIEWS = {
    "interpolate": lambda x: F.interpolate(x, scale_factor=2),
    "interpolate to a size": lambda x: F.interpolate(x, size=(5, 11)),
    "nearest-exact": lambda x: F.interpolate(x, size=13, mode="nearest-exact"),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
    "pad, reflect": lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"),
    "pad, replicate": lambda x: F.pad(x, (1, 2, 0, 3), mode="replicate"),
    "pad, circular": lambda x: F.pad(x, (2, 2, 1, 1), "circular"),
    "pad by 2": lambda x: F.pad(x, (1, 1), value=2.0),
    "pad by sizes": lambda x: F.pad(x, (0, x.size(3) // 2, 0, 1)),
    "flip": lambda x: x.flip(3),
    "torch.flip": lambda x: torch.flip(x, [2, 3]),
    "roll": lambda x: x.roll(1, 3),
    "rot90": lambda x: torch.rot90(x, 1, (2, 3)),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "repeat_interleave": lambda x: x.repeat_interleave(2, dim=1),
    "tile": lambda x: torch.tile(x, (1, 2, 1, 1)),
    "expand": lambda x: x[:, :1].expand(-1, 5, -1, -1),
    "index_select": lambda x: x.index_select(1, torch.tensor([0, 2, 2])),
    "None": lambda x: x[:, None, ..., 1:],
    "ellipsis": lambda x: x[..., ::3],
    "a list": lambda x: x[:, [2, 2, 0]],
    "narrow": lambda x: x.narrow(1, 1, 2),
    "select": lambda x: x.select(1, 2),
    "chunk": lambda x: x.chunk(3, 1)[1],
    "split": lambda x: x.split([1, 3], 1)[1],
    "unbind": lambda x: x.unbind(2)[3],
    "tensor_split": lambda x: torch.tensor_split(x, 3, 1)[0],
    "movedim": lambda x: x.movedim(1, 3),
    "swapaxes": lambda x: x.swapaxes(1, 2),
    "mT": lambda x: x.mT,
    "T": lambda x: x.flatten(1).T.flip(0).T,
    "unflatten": lambda x: x.unflatten(1, (2, 2)),
    "view_as": lambda x: x.flatten(1).view_as(x),
    "unsqueeze_": lambda x: x.clone().unsqueeze_(1).squeeze_(1),
    "unfold": lambda x: F.unfold(x, 3, padding=1, stride=2),
    "windows that overlap": lambda x: x.unfold(2, 3, 2),
    "diagonal": lambda x: x.diagonal(dim1=2, dim2=3),
    "type_as": lambda x: x.type_as(x),
    "to the type of x": lambda x: x.to(x.dtype),
    "to the device of x": lambda x: x.to(x.device),
    "to another": lambda x: x.to(x.flatten(1)),
    "dropout": lambda x: F.dropout2d(F.dropout(x, 0.5, False), training=False),
    "alpha_dropout": F.alpha_dropout,
}
POOLING = {
    "over size": lambda x: F.avg_pool2d(x, x.size()[2:]),
    "maximum over size": lambda x: F.max_pool2d(x, kernel_size=x.size()[2:]),
    "adaptive to a size": lambda x: F.adaptive_avg_pool2d(x, x[:, :, ::3].shape[2:]),
    "max_pool1d": lambda x: F.max_pool1d(x.flatten(2), 3, 2, 1),
    "max_pool3d": lambda x: F.max_pool3d(x.unsqueeze(1), (2, 3, 3), (1, 2, 2), (0, 1, 1), ceil_mode=True),
    "dilated": lambda x: F.max_pool2d(x, 2, 1, dilation=3),
    "dilated max_pool1d": lambda x: F.max_pool1d(x.flatten(2), 2, dilation=3),
    "return_indices": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "adaptive, return_indices": lambda x: F.adaptive_max_pool2d(x, 3, return_indices=True)[0],
    "avg_pool1d": lambda x: F.avg_pool1d(x.flatten(2), 3, 2, 1),
    "avg_pool3d": lambda x: F.avg_pool3d(x.unsqueeze(1), 2, divisor_override=3),
    "adaptive_avg_pool1d": lambda x: F.adaptive_avg_pool1d(x.flatten(2), 5),
    "adaptive_avg_pool3d": lambda x: F.adaptive_avg_pool3d(x.unsqueeze(1), (2, 3, 1)),
    "adaptive_max_pool1d": lambda x: F.adaptive_max_pool1d(x.flatten(2), 5),
    "adaptive_max_pool3d": lambda x: F.adaptive_max_pool3d(x.unsqueeze(1), (2, 3, 1)),
}
LINEAR = {
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear, corners": lambda x: F.interpolate(x, size=(5, 13), mode="bilinear", align_corners=True),
    "bilinear, antialias": lambda x: F.interpolate(x, size=3, mode="bilinear", antialias=True),
    "bicubic": lambda x: F.interpolate(x, scale_factor=1.5, mode="bicubic"),
    "area": lambda x: F.interpolate(x, size=3, mode="area"),
    "to the size of another": lambda x: x + F.interpolate(F.avg_pool2d(x, 2), size=x.shape[-2:], mode="bilinear"),
    "along one axis": lambda x: F.interpolate(x.flatten(2), scale_factor=2, mode="linear"),
    "fold": lambda x: F.fold(F.unfold(x, 2), (x.size(2), x.size(3)), 2),
    "functional linear": lambda x: F.linear(x.flatten(2)[:, :, :5], MATRIX, fixed(6)),
    "matmul": lambda x: x.flatten(2)[:, :, :6] @ MATRIX,
    "addmm": lambda x: torch.addmm(fixed(5), x.flatten(1)[:, :6], MATRIX),
    "conv1d": lambda x: F.conv1d(x.flatten(2), KERNEL[..., 0], dilation=2),
    "conv2d": lambda x: F.conv2d(x, KERNEL, fixed(3), stride=2, padding=1),
    "conv2d, same": lambda x: F.conv2d(x, KERNEL[..., :2], padding="same"),
    "conv_transpose2d": lambda x: F.conv_transpose2d(x, KERNEL.transpose(0, 1), stride=2, output_padding=1),
}
MODULES = {
    "ReflectionPad2d": nn.ReflectionPad2d(1),
    "ReplicationPad2d": nn.ReplicationPad2d((1, 2, 0, 1)),
    "CircularPad2d": nn.CircularPad2d(1),
    "ConstantPad2d": nn.ConstantPad2d(1, 0.0),
    "ConstantPad2d by 3": nn.ConstantPad2d((1, 0, 2, 1), 3.0),
    "Upsample": nn.Upsample(scale_factor=2),
    "Upsample, bilinear": nn.Upsample(size=(11, 5), mode="bilinear", align_corners=True),
    "UpsamplingNearest2d": nn.UpsamplingNearest2d(scale_factor=3),
    "UpsamplingBilinear2d": nn.UpsamplingBilinear2d(scale_factor=2),
    "PixelShuffle": nn.PixelShuffle(2),
    "PixelUnshuffle": nn.PixelUnshuffle(2),
    "ChannelShuffle": nn.ChannelShuffle(2),
    "Unfold": nn.Unfold(3),
    "GLU": (nn.GLU(1), PRODUCTS["glu"][1]),
    "MaxPool2d, return_indices": Call(lambda self, x: self.pool(x)[0], pool=nn.MaxPool2d(3, 2, 1, return_indices=True)),
    "AdaptiveMaxPool2d": nn.AdaptiveMaxPool2d((3, 2)),
    "FeatureAlphaDropout": nn.FeatureAlphaDropout(),
    "Conv2d, reflect": nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"),
    "Conv2d, circular": nn.Conv2d(4, 3, 3, padding=(2, 1), padding_mode="circular"),
    "Conv2d, replicate, same": nn.Conv2d(4, 3, (3, 4), padding="same", padding_mode="replicate"),
    "Conv2d, same, even": nn.Conv2d(4, 3, (2, 4), padding="same", dilation=(1, 3)),
    "Conv2d, valid": nn.Conv2d(4, 3, 3, padding="valid"),
}
# fmt: on
OLD = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 9)
"""Whether torch.fx cannot trace a call whose tuple, number, dtype or device is computed; its line is named then."""
if OLD:
    for name in ("over size", "parts joined again", "parts stacked"):
        next(table for table in (POOLING, JOINS) if name in table).pop(name)

TABLES = (NORMALISED, PRODUCTS, SUMS, JOINS, WINNERS, VIEWS, POOLING, LINEAR, MODULES)
OPERATIONS = {name: (f, held(f)) for name, f in ACTIVATIONS.items()} | {
    name: entry if isinstance(entry, tuple) else (entry, entry) for table in TABLES for name, entry in table.items()
}
"""Name -> the function and its linearised net."""
OF_ONE_SIZE = {"cat with fixed", "where by place", "masked_fill by place", "clamp between tensors"}
"""Those that fit two images of 8 x 8 only."""
