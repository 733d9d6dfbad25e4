"""How much relevance reaches the pixels: python -m benchmarks.kept_share [--config NAME ...] [--side 224]

The median kept share (sum of the map over its start) of the sample images, for one torchvision net per family with
random weights, fed with pixels normalised as ImageNet's are, and for the bundled nets. The table of docs/configs.md.
The biases of the random nets are 0, so that what is missing is what epsilon takes: in some of them next to nothing of
the image reaches the logits, which are then random biases.
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

import lrpcli
from lrpcli.lrp.composites.default import DEFAULT_CONFIG

EARLIER = ("alpha2-beta1-epsilon", "alpha2-beta1-relative")
"""The defaults of earlier versions."""
FAMILIES = ("alexnet", "vgg16", "resnet50", "densenet121", "googlenet", "inception_v3", "mobilenet_v2", "mnasnet1_0",
            "shufflenet_v2_x1_0", "squeezenet1_1", "efficientnet_b0", "regnet_y_400mf", "convnext_tiny")  # fmt: skip
SLOW = {"googlenet": {"init_weights": False}, "inception_v3": {"init_weights": False}}
"""Without the weights that these two draw for training, which takes a minute."""
BUNDLED = ("caffenet-small", "cifar10")
PHOTOS = Path(__file__).parents[1] / "sample_images"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", action="append", help="name or file; can be given several times")
    parser.add_argument("--net", action="append", help="one of the nets; can be given several times")
    parser.add_argument("--side", type=int, default=224, help="of the images for torchvision's nets")
    options = parser.parse_args()
    names = options.config or [*EARLIER, DEFAULT_CONFIG]
    print(f"| net | {' | '.join(f'`{Path(name).stem}`' for name in names)} |")
    print(f"| --- |{' --- |' * len(names)}")
    for name in options.net or (*FAMILIES, *BUNDLED):
        shares = " | ".join(f"{share:.3g}" for share in kept_shares(name, names, options.side))
        print(f"| {name} | {shares} |", flush=True)


def kept_shares(name: str, configs: Sequence[str], side: int) -> Iterator[float]:
    """The median kept share of the sample images by each config."""
    if name in BUNDLED:
        model = lrpcli.load_model(name)
        images = [model.preprocess(photo)[0] for photo in photos()]
        explainer = lrpcli.Explainer(model, configs[0])
    else:
        images = [normalised(photo, side) for photo in photos()]
        explainer = lrpcli.Explainer(random_net(name), configs[0])
    for config in configs:
        results = (explainer.with_config(config)(image) for image in images)
        yield statistics.median(float(result.conservation["input"] / result.start) for result in results)


def random_net(name: str) -> nn.Module:
    """A net of torchvision with random weights and no biases."""
    from torchvision import models

    torch.manual_seed(0)
    net: nn.Module = models.get_model(name, weights=None, **SLOW.get(name, {}))
    for parameter_name, parameter in net.named_parameters():
        if parameter_name.endswith("bias"):
            parameter.data.zero_()
    return net.eval()


def photos() -> Iterator[Image.Image]:
    for path in sorted(PHOTOS.iterdir()):
        if path.suffix in (".jpg", ".webp"):
            with Image.open(path) as photo:
                yield photo.convert("RGB")


def normalised(photo: Image.Image, side: int) -> Tensor:
    """A photo as a tensor (1, 3, side, side), less ImageNet's mean and divided by its standard deviation."""
    pixels = torch.frombuffer(bytearray(photo.resize((side, side)).tobytes()), dtype=torch.uint8)
    scaled = pixels.view(1, side, side, 3).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (scaled - mean) / std


if __name__ == "__main__":
    main()
