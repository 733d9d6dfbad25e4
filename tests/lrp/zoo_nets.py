"""Which nets of torchvision and timm are explained, and small versions of them with random weights."""

from contextlib import contextmanager
from itertools import pairwise
from unittest.mock import patch

import torch
from torch import nn
from torchvision import models

TIMM = [
    "convformer_s18", "convmixer_768_32", "convnext_atto", "convnext_zepto_rms", "convnextv2_atto",
    "cs3darknet_focus_s", "cspdarknet53", "cspnext_tiny", "cspresnet50", "darknet17", "darknet53", "densenet121",
    "densenetblur121d", "dla34", "dm_nfnet_f0", "dpn48b", "dpn68", "ecaresnet26t", "efficientnet_b0",
    "efficientnet_lite0", "efficientnet_x_b3", "efficientnetv2_rw_t", "ese_vovnet19b_slim_dw", "ese_vovnet39b",
    "fasternet_t0", "fastvit_t8", "fbnetc_100", "fbnetv3_b", "gcresnext26ts", "gernet_s", "ghostnet_100",
    "ghostnetv2_100", "ghostnetv3_100", "hardcorenas_a", "hgnet_tiny", "hgnetv2_b0", "hrnet_w18_small",
    "inception_next_atto", "inception_resnet_v2", "inception_v3", "inception_v4", "lcnet_050", "lcnetv2_small",
    "legacy_senet154", "legacy_seresnet18", "legacy_xception", "mambaout_femto", "mixnet_s", "mnasnet_small",
    "mobilenet_edgetpu_v2_s", "mobilenetv1_100", "mobilenetv2_100", "mobilenetv3_small_100",
    "mobilenetv4_conv_blur_medium", "mobilenetv4_conv_small", "mobileone_s0", "nasnetalarge", "nf_resnet26",
    "nfnet_l0", "pnasnet5large", "poolformer_s12", "poolformerv2_s12", "rdnet_tiny", "regnetv_040", "regnetx_002",
    "regnety_002", "regnetz_005", "regnetz_b16", "repghostnet_050", "repvgg_a0", "repvit_m0_9", "res2net50_14w_8s",
    "res2next50", "resnest14d", "resnest26d", "resnet10t", "resnet18", "resnet26d", "resnet32ts",
    "resnet50_clip_gap", "resnet50_gn", "resnetaa34d", "resnetblur18", "resnetv2_18", "resnetv2_50",
    "resnetv2_50d_gn", "resnetv2_50x1_bit", "rexnet_100", "rexnetr_100", "selecsls42b", "semnasnet_050",
    "seresnet18", "skresnet18", "spnasnet_100", "starnet_s050", "tf_efficientnet_b0", "tf_efficientnetv2_b0",
    "tf_mixnet_s", "tinynet_e", "tresnet_m", "vgg11", "vgg11_bn", "vovnet39a", "xception41",
]  # fmt: skip
"""Small nets of convolutions, one or two a family, as of timm 1.0.31; all are explained."""
EXPORTED = {
    "timm:dm_nfnet_f0", "timm:efficientnet_x_b3", "timm:nasnetalarge", "timm:pnasnet5large",
    "timm:tf_efficientnet_b0", "timm:tf_efficientnetv2_b0", "timm:tf_mixnet_s", "timm:vgg11", "timm:vgg11_bn",
}  # fmt: skip
"""Those of them that torch.fx cannot trace and torch.export can."""
TORCHVISION = [
    "alexnet", "convnext_base", "convnext_large", "convnext_small", "convnext_tiny", "densenet121", "densenet161",
    "densenet169", "densenet201", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3",
    "efficientnet_b4", "efficientnet_b5", "efficientnet_b6", "efficientnet_b7", "efficientnet_v2_l",
    "efficientnet_v2_m", "efficientnet_v2_s", "googlenet", "inception_v3", "mnasnet0_5", "mnasnet0_75",
    "mnasnet1_0", "mnasnet1_3", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "regnet_x_16gf",
    "regnet_x_1_6gf", "regnet_x_32gf", "regnet_x_3_2gf", "regnet_x_400mf", "regnet_x_800mf", "regnet_x_8gf",
    "regnet_y_128gf", "regnet_y_16gf", "regnet_y_1_6gf", "regnet_y_32gf", "regnet_y_3_2gf", "regnet_y_400mf",
    "regnet_y_800mf", "regnet_y_8gf", "resnet101", "resnet152", "resnet18", "resnet34", "resnet50",
    "resnext101_32x8d", "resnext101_64x4d", "resnext50_32x4d", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5", "shufflenet_v2_x2_0", "squeezenet1_0", "squeezenet1_1", "vgg11", "vgg11_bn", "vgg13",
    "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "wide_resnet101_2", "wide_resnet50_2",
]  # fmt: skip
"""Those of torchvision's nets for classification that are explained; the others have attention."""
ATTENTION = [
    "maxvit_t", "swin_b", "swin_s", "swin_t", "swin_v2_b", "swin_v2_s", "swin_v2_t", "vit_b_16", "vit_b_32",
    "vit_h_14", "vit_l_16", "vit_l_32",
]  # fmt: skip
QUICK = {
    "timm:resnet18", "timm:vgg11_bn", "timm:convnextv2_atto", "timm:starnet_s050", "timm:resnest14d",
    "timm:tf_efficientnet_b0", "timm:gcresnext26ts", "timm:ghostnet_100", "torchvision:densenet121",
    "torchvision:convnext_tiny", "torchvision:mobilenet_v3_small", "torchvision:shufflenet_v2_x0_5",
}  # fmt: skip
"""Those that are tried every time."""
SLOW = {"timm:nasnetalarge", "timm:pnasnet5large", "timm:dm_nfnet_f0", "timm:ghostnetv3_100", "timm:mobileone_s0"}
"""Those that take long to trace, and are traced once: how much relevance they keep without biases is not tried."""
SIDES = {
    **dict.fromkeys(("timm:inception_v3", "timm:inception_v4", "timm:inception_resnet_v2"), 80),
    **dict.fromkeys(("timm:nasnetalarge", "timm:pnasnet5large", "timm:legacy_xception"), 96),
    "torchvision:inception_v3": 80,
    **{f"torchvision:{name}": 32 for name in TORCHVISION if name.startswith(("vgg", "wide", "regnet", "resnext101"))},
    **{
        f"torchvision:{name}": 32 for name in ("convnext_large", "densenet161", "densenet201", "resnet101", "resnet152")
    },
}
"""Sides of the images, where 64 pixels are too few, or 32 are enough and quicker."""
SMALLER = {
    "timm:vgg11": {"mlp_ratio": 1 / 64},
    "timm:vgg11_bn": {"mlp_ratio": 1 / 64},
    "timm:nasnetalarge": {"num_features": 672, "stem_size": 16},
    "torchvision:googlenet": {"aux_logits": False, "init_weights": False},
    "torchvision:inception_v3": {"aux_logits": False, "init_weights": False},
}
"""What makes a net smaller, or leaves out what is no part of the logits."""


def make(name, side=64):
    """A net by zoo and name, for ten classes, in float64 and eval mode, with random numbers in all that it holds."""
    if name.startswith("timm:"):
        return randomised(short_timm(name, side))
    with torch.device("meta"), narrow_regnets():
        plain = name.partition(":")[2]
        net = models.get_model(plain, weights=None, num_classes=10, **SMALLER.get(name, {}))
    net = shortened(net).to_empty(device="cpu")
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    return randomised(net)


@contextmanager
def narrow_regnets():
    """Regnets with an eighth of their channels; they work out how many with tensors, which need values."""
    params = models.regnet.BlockParams
    work_out = params.from_init_params

    def narrower(w_0, w_a, group_width, **rest):
        with torch.device("cpu"):
            return work_out(w_0=max(8, w_0 // 64 * 8), w_a=w_a / 8, group_width=max(8, group_width // 8), **rest)

    with patch.object(params, "from_init_params", narrower):
        yield


def short_timm(name, side):
    """A net of timm with fewer blocks, or as it is where it counts them."""
    import timm

    for shorten in (shortened, lambda net: net):
        torch.manual_seed(0)
        plain = name.partition(":")[2]
        net = shorten(timm.create_model(plain, pretrained=False, num_classes=10, **SMALLER.get(name, {}))).eval()
        try:
            with torch.no_grad():
                net(torch.zeros(1, 3, side, side))
        except (RuntimeError, IndexError, ValueError):
            continue
        return net
    raise ValueError(f"{name} takes no image of {side} pixels")


def shortened(net):
    """The net with two blocks of each sort in a row, and with narrow hidden layers behind its convolutions."""
    for part in list(net.modules()):
        if isinstance(part, nn.Sequential):
            blocks = list(part.named_children())
            for (_, first), (_, before), (name, block) in zip(blocks, blocks[1:], blocks[2:], strict=False):
                shapes = [parameter.shape for parameter in block.parameters()]
                same = type(first) is type(before) is type(block)
                if same and shapes and shapes == [parameter.shape for parameter in before.parameters()]:
                    delattr(part, name)
    head = [part for part in getattr(net, "classifier", net).children() if isinstance(part, nn.Linear)]
    for before, behind in pairwise(head):
        before.weight, before.bias = (nn.Parameter(value[:32]) for value in (before.weight, before.bias))
        behind.weight = nn.Parameter(behind.weight[:, :32])
    return net


def randomised(net):
    """Statistics as after some training, scales about 1, small biases; weights that keep activations as large."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        tensor.requires_grad_(False)
        normal, even = torch.randn(tensor.shape, generator=generator), torch.rand(tensor.shape, generator=generator)
        if name.endswith(("running_mean", "bias")):
            tensor.copy_(0.1 * normal)
        elif name.endswith("running_var") or (isinstance(tensor, nn.Parameter) and tensor.dim() < 2):
            tensor.copy_(even + 0.5)
        elif isinstance(tensor, nn.Parameter) and not tensor.any():
            tensor.copy_(normal * (2 / max(tensor[0].numel(), 8)) ** 0.5)
    return net.double().eval()


def without_biases(net):
    """LRP-0 that ignores biases divides by sums near zero wherever a bias outweighs them: here are none."""
    for name, tensor in [*net.named_buffers(), *net.named_parameters()]:
        if name.endswith(("running_mean", "bias")):
            tensor.zero_()
    return net
