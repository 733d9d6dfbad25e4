"""From a layout to the net that is trained, and from that to the plain net that is shipped.

Convolutions and hidden fully connected layers are trained with a normalisation over the batch, without which these
nets hardly start to learn, and the first convolutions with a fixed factor, with which activations are large enough for
local response normalisation to act. Both are linear at inference: `folded_weights` puts them into the weights. A layout
without biases is normalised in scale alone, so that nothing but weights is left.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from lrpcli.lrp.layers.normalization import LocalResponseNorm
from training.layout import Conv, Drop, Layer, Layout, Linear, Norm, Pool, Relu


class TrainableNorm(nn.Module):
    """Local response normalisation with a fast gradient; equals lrpcli's layer (which works in place) in value.

    Across channels the window sum is a 1x1 convolution with a banded matrix.
    """

    def __init__(self, layer: Norm, channels: int) -> None:
        super().__init__()
        self.layer = layer
        self.factor = layer.alpha / (layer.size**2 if layer.within else layer.size)
        index = torch.arange(channels)
        band = (index[:, None] - index[None, :]).abs() <= layer.size // 2
        self.register_buffer("band", band.float()[:, :, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        if self.layer.within:
            total = functional.avg_pool2d(x * x, self.layer.size, 1, self.layer.size // 2, divisor_override=1)
        else:
            total = functional.conv2d(x * x, self.band)
        scale = 1 + self.factor * total
        if self.layer.beta != 0.75:
            return x * scale.pow(-self.layer.beta)
        root = scale.rsqrt()
        return x * root * root.sqrt()


class ScaleNorm(nn.Module):
    """x / root mean square of x over the batch, per channel, times a learned weight: it changes the scale alone.

    In evaluation mode the running mean square divides. The channels are the second axis of x.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_buffer("running_square", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) to the same shape."""
        square = self.running_square
        if self.training:
            square = x.to(square.dtype).square().mean(dim=[axis for axis in range(x.ndim) if axis != 1])
            self.running_square.lerp_(square.detach(), self.momentum)
        gain = self.weight * (square + self.eps).rsqrt()
        return x * gain.to(x.dtype).view(-1, *[1] * (x.ndim - 2))


class Block(nn.Module):
    """Convolution or fully connected layer without bias, normalisation over the batch, fixed factor."""

    def __init__(self, linear: nn.Conv2d | nn.Linear, factor: float = 1.0) -> None:
        super().__init__()
        outputs = linear.weight.shape[0]
        self.linear = linear
        self.bn = nn.BatchNorm2d(outputs) if isinstance(linear, nn.Conv2d) else nn.BatchNorm1d(outputs)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, ...) to (N, outputs, ...)."""
        return self.bn(self.linear(x)) * self.factor

    def folded(self) -> dict[str, Tensor]:
        """Weight and bias of the layer that does the same in evaluation mode, computed in float64."""
        bn, weight = self.bn, self.linear.weight.double()
        gain = self.factor * bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
        bias = self.factor * bn.bias.double() - bn.running_mean.double() * gain
        return {"weight": weight * gain.view(-1, *[1] * (weight.ndim - 1)), "bias": bias}


class BiasFreeBlock(nn.Module):
    """Convolution or fully connected layer that is normalised over the batch by changes of its weights alone.

    Batch normalisation takes the mean away with a bias. Here each row of weights loses the part along the mean input
    instead (`centre`, not for the first layer, whose input has no mean), so that its outputs have mean 0 all the same,
    and gets a learned part along it, which takes the place of batch normalisation's own bias. Then ScaleNorm.
    """

    def __init__(self, linear: nn.Conv2d | nn.Linear, factor: float, *, centre: bool) -> None:
        super().__init__()
        outputs, inputs = linear.weight.shape[:2]
        self.linear, self.factor, self.centre = linear, factor, centre
        self.groups = getattr(linear, "groups", 1)
        self.scale = ScaleNorm(outputs)
        if centre:
            self.shift = nn.Parameter(torch.zeros(outputs))
            self.register_buffer("running_mean", torch.ones(inputs * self.groups))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, ...) to (N, outputs, ...)."""
        weight = self.linear.weight
        if self.centre:
            mean = self.running_mean
            if self.training:
                mean = x.to(mean.dtype).mean(dim=[axis for axis in range(x.ndim) if axis != 1])
                self.running_mean.lerp_(mean.detach(), self.scale.momentum)
            with torch.autocast(x.device.type, enabled=False):
                weight = self.centred(weight, mean)
        if isinstance(self.linear, nn.Conv2d):
            x = functional.conv2d(x, weight, None, self.linear.stride, self.linear.padding, groups=self.groups)
        else:
            x = functional.linear(x, weight)
        return self.scale(x) * self.factor

    def centred(self, weight: Tensor, mean: Tensor) -> Tensor:
        """The weights (outputs, inputs, ...) with a mean output that `shift` sets, for inputs of this mean."""
        rows = weight.reshape(self.groups, -1, weight[0].numel())
        direction = mean.view(self.groups, -1, 1).expand(-1, -1, weight[0, 0].numel()).reshape(self.groups, -1, 1)
        direction = direction / (direction.norm(dim=1, keepdim=True) + 1e-6)
        rows = rows - rows @ direction @ direction.mT
        size = rows.norm(dim=2, keepdim=True) / rows.shape[2] ** 0.5
        rows = rows + self.shift.view(self.groups, -1, 1).to(rows.dtype) * size * direction.mT
        return rows.view_as(weight)

    def folded(self) -> dict[str, Tensor]:
        """Weight of the layer that does the same in evaluation mode, computed in float64."""
        weight, scale = self.linear.weight.double(), self.scale
        if self.centre:
            weight = self.centred(weight, self.running_mean.double())
        gain = self.factor * scale.weight.double() / (scale.running_square.double() + scale.eps).sqrt()
        return {"weight": weight * gain.view(-1, *[1] * (weight.ndim - 1))}


class TrainingNet(nn.Module):
    """The net during training: `features` up to the last pooling, `classifier` from the first fully connected layer.

    Inputs smaller than the layout's side are allowed (cheaper early epochs): their last maps are stretched to fit.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        split = next(i for i, layer in enumerate(layout.layers) if isinstance(layer, Linear))
        self.features = stack(layout.layers[:split], 3, plain=False)
        with torch.no_grad():
            maps = self.features.eval()(torch.zeros(1, 3, layout.side, layout.side))
        self.grid = maps.shape[-2:]
        self.classifier = stack(layout.layers[split:], maps[0].numel(), plain=False)
        self.train()

    def forward(self, x: Tensor) -> Tensor:
        """Pixels minus mean (N, 3, H, W) to logits (N, classes)."""
        maps = self.features(x)
        if maps.shape[-2:] != self.grid:
            maps = functional.interpolate(maps, size=self.grid, mode="bilinear")
        return self.classifier(maps.flatten(1))


def stack(layers: tuple[Layer, ...], channels: int, plain: bool) -> nn.Sequential:
    """The layers as named modules; `plain` gives bare convolutions and lrpcli's own normalisation."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for layer in layers:
        modules[layer.name] = module_of(layer, channels, plain)
        channels = getattr(layer, "outputs", channels)
    return nn.Sequential(modules)


def module_of(layer: Layer, channels: int, plain: bool) -> nn.Module:
    """One layer of the layout as a module that takes `channels` inputs."""
    match layer:
        case Conv(_, outputs, kernel, stride, pad, group) if plain:
            return nn.Conv2d(channels, outputs, kernel, stride, pad, groups=group, bias=layer.bias)
        case Conv(_, outputs, kernel, stride, pad, group, factor):
            convolution = nn.Conv2d(channels, outputs, kernel, stride, pad, groups=group, bias=False)
            return Block(convolution, factor) if layer.bias else BiasFreeBlock(convolution, factor, centre=channels > 3)
        case Norm(_, size, alpha, beta, within) if plain:
            return LocalResponseNorm(size, alpha, beta, region="within-channel" if within else "across-channels")
        case Norm():
            return TrainableNorm(layer, channels)
        case Pool(_, kind, kernel, stride):
            return (nn.MaxPool2d if kind == "MAX" else nn.AvgPool2d)(kernel, stride, ceil_mode=True)
        case Linear(_, outputs, True) if not plain:
            linear = nn.Linear(channels, outputs, bias=False)
            return Block(linear) if layer.bias else BiasFreeBlock(linear, 1.0, centre=True)
        case Linear(_, outputs):
            return nn.Linear(channels, outputs, bias=layer.bias)
        case Drop(_, ratio):
            return nn.Dropout(ratio)
        case Relu():
            return nn.ReLU()


def folded_weights(net: TrainingNet) -> dict[str, Tensor]:
    """`<layer>.weight` and `<layer>.bias` of the plain net, float32 on the CPU, layers named as in the layout."""
    weights: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, module in [*net.features.named_children(), *net.classifier.named_children()]:
            if isinstance(module, Block | BiasFreeBlock | nn.Linear):
                tensors = dict(module.named_parameters()) if isinstance(module, nn.Linear) else module.folded()
                weights |= {f"{name}.{kind}": tensor for kind, tensor in tensors.items()}
    return {name: tensor.detach().float().cpu().contiguous() for name, tensor in weights.items()}


def plain_net(layout: Layout, weights: dict[str, Tensor]) -> nn.Sequential:
    """The shipped net, float32 and in evaluation mode: (N, 3, side, side) to logits."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    channels, flat = 3, False
    for layer in layout.layers:
        if isinstance(layer, Linear) and not flat:
            modules["flatten"], flat = nn.Flatten(), True
        if isinstance(layer, Conv | Linear):
            channels = weights[f"{layer.name}.weight"].shape[1] * getattr(layer, "group", 1)
        modules[layer.name] = module_of(layer, channels, plain=True)
    net = nn.Sequential(modules)
    net.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return net.eval()
