"""Random views of a batch, and mixing of two photos into one; all on tensors, so on the CPU or a GPU alike."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """How far photos are changed in training.

    area: smallest and largest part of the photo that is kept; aspect: largest change of its proportions;
    rotation in degrees; soft: part of the photos that lose detail, as if their side were `softest` pixels or more;
    colour: largest relative change of brightness, contrast and saturation; mixup: parameter of the beta distribution
    (0: none); cutmix: part of the batches that get a pasted rectangle instead of mixup.
    """

    area: tuple[float, float] = (0.3, 1.0)
    aspect: float = 1.3
    soft: float = 0.0
    softest: int = 96
    rotation: float = 8.0
    colour: float = 0.3
    mixup: float = 0.2
    cutmix: float = 0.4


def uniform(count: int, low: float, high: float) -> Tensor:
    """Random numbers (count,) between low and high, from torch's global generator on the CPU."""
    return torch.rand(count) * (high - low) + low


def random_views(pixels: Tensor, side: int, settings: Augmentation) -> Tensor:
    """Pixels (N, 3, H, W) 0..255 to random flipped, cropped, rotated, recoloured views (N, 3, side, side) float32."""
    count, device = len(pixels), pixels.device
    pixels = soften(pixels.float(), settings)
    area = uniform(count, *settings.area).sqrt()
    aspect = uniform(count, -math.log(settings.aspect), math.log(settings.aspect)).mul(0.5).exp()
    width, height = (area * aspect).clamp(max=1), (area / aspect).clamp(max=1)
    flip = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    angle = uniform(count, -settings.rotation, settings.rotation) * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    left, top = uniform(count, -1, 1) * (1 - width), uniform(count, -1, 1) * (1 - height)
    rows = (flip * width * cos, -height * sin, left, flip * width * sin, height * cos, top)
    theta = torch.stack(rows, dim=1).view(count, 2, 3).to(device)
    grid = functional.affine_grid(theta, [count, 3, side, side], align_corners=False)
    views = functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    return recolour(views, settings.colour)


def soften(pixels: Tensor, settings: Augmentation) -> Tensor:
    """Some of the photos (N, 3, H, W) made smaller and as large as before, so that sharpness tells no class."""
    count = int(len(pixels) * settings.soft)
    if count == 0:
        return pixels
    small = int(torch.randint(settings.softest, pixels.shape[-1], ()))
    rows = torch.randperm(len(pixels))[:count]
    soft = functional.interpolate(pixels[rows], size=(small, small), mode="bilinear", antialias=True)
    result = pixels.clone()
    result[rows] = functional.interpolate(soft, size=pixels.shape[-2:], mode="bilinear")
    return result


def recolour(views: Tensor, strength: float) -> Tensor:
    """Random saturation, contrast and brightness per photo; pixels stay in 0..255."""
    saturation, contrast, brightness = (
        uniform(len(views), 1 - strength, 1 + strength).view(-1, 1, 1, 1).to(views.device) for _ in range(3)
    )
    grey = views.mean(dim=1, keepdim=True)
    views = torch.lerp(grey, views, saturation)
    middle = grey.mean(dim=(2, 3), keepdim=True)
    return torch.lerp(middle, views, contrast).mul_(brightness).clamp_(0, 255)


def shifted_views(pixels: Tensor, shift: int) -> Tensor:
    """Pixels (N, 3, H, W) to flipped and shifted views of the same size, float32; borders are reflected."""
    count, _, height, width = pixels.shape
    padded = functional.pad(pixels.float(), (shift,) * 4, mode="reflect")
    rows = torch.randint(2 * shift + 1, (count, 1)) + torch.arange(height)
    columns = torch.randint(2 * shift + 1, (count, 1)) + torch.arange(width)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns, columns.flip(1))
    index = (torch.arange(count)[:, None, None], slice(None), rows[:, :, None], columns[:, None, :])
    return padded[index].permute(0, 3, 1, 2)


def mix(views: Tensor, settings: Augmentation) -> tuple[Tensor, Tensor, float]:
    """Each photo mixed with another: views, the partners' row numbers (N,), the share of the photo itself."""
    partner = torch.randperm(len(views))
    if torch.rand(()) < settings.cutmix:
        return paste(views, partner)
    if settings.mixup == 0:
        return views, partner, 1.0
    share = torch.distributions.Beta(settings.mixup, settings.mixup).sample().item()
    return torch.lerp(views[partner], views, share), partner, share


def paste(views: Tensor, partner: Tensor) -> tuple[Tensor, Tensor, float]:
    """CutMix: the same rectangle of every photo comes from its partner."""
    height, width = views.shape[-2:]
    edge = torch.rand(()).sqrt().item()
    tall, wide = int(height * edge), int(width * edge)
    top, left = (int(torch.randint(size + 1, ())) for size in (height - tall, width - wide))
    mixed = views.clone()
    mixed[:, :, top : top + tall, left : left + wide] = views[partner][:, :, top : top + tall, left : left + wide]
    return mixed, partner, 1 - tall * wide / (height * width)
