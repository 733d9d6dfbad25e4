"""The training loop: one-cycle AdamW, averaged weights, checkpoints after every epoch.

The schedule depends on the part of the run that is done, counted in epochs or, with a time budget, in minutes. Each
epoch seeds its own random numbers, so a run continued from a checkpoint equals one that was never stopped (with a
time budget: up to the moments at which the clock was read).
"""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from training.augment import Augmentation, mix, random_views, shifted_views
from training.data import Photos
from training.network import TrainingNet


@dataclass(frozen=True)
class Recipe:
    """All numbers of a training run.

    Exactly one of `epochs` and `minutes` is set. `balance`: 0 draws classes as often as they occur, 1 equally often.
    The first `small_part` of the run uses views of `small_side` pixels, the last `plain_part` does not mix photos.
    `shift`: shifts by so many pixels replace the random views.
    """

    epochs: int | None = None
    minutes: float | None = None
    batch: int = 128
    peak: float = 3e-3
    warm_part: float = 0.15
    weight_decay: float = 0.05
    smoothing: float = 0.05
    average: float = 0.998
    balance: float = 0.2
    small_side: int | None = None
    small_part: float = 0.0
    plain_part: float = 0.1
    shift: int | None = None
    order: str = "RGB"
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 1

    def rate(self, done: float) -> float:
        """Learning rate when the part `done` (0..1) of the run is over: linear up, half a cosine down."""
        if done < self.warm_part:
            return self.peak * (0.04 + 0.96 * done / self.warm_part)
        return self.peak * (0.5 + 0.5 * math.cos(math.pi * (min(done, 1) - self.warm_part) / (1 - self.warm_part)))


class Run:
    """A training run: net, averaged net, optimizer and how far they are.

    `fast` compiles the net and computes in bfloat16 where that is enough; weights and averages stay float32.
    """

    def __init__(self, net: TrainingNet, recipe: Recipe, mean: Tensor, device: str, *, fast: bool = False) -> None:
        self.net = net.to(device, memory_format=torch.channels_last)
        self.fast = fast
        self.forward = torch.compile(self.net, dynamic=False) if fast else self.net
        self.recipe, self.device, self.mean = recipe, device, mean.view(1, 3, 1, 1).to(device)
        average = get_ema_multi_avg_fn(recipe.average)
        self.averaged = AveragedModel(self.net, multi_avg_fn=average, use_buffers=True)
        decayed = [p for p in net.parameters() if p.ndim > 1]
        rest = [p for p in net.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.peak)
        self.epoch, self.seconds, self.images = 0, 0.0, 0

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({name: part.state_dict() for name, part in self.parts().items()} | self.counts(), f"{path}.new")
        Path(f"{path}.new").replace(path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.epoch, self.seconds, self.images = state["epoch"], state["seconds"], state["images"]

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds besides the counts."""
        return {"net": self.net, "averaged": self.averaged, "optimizer": self.optimizer}

    def counts(self) -> dict[str, float]:
        """Epochs and seconds done, images seen."""
        return {"epoch": self.epoch, "seconds": self.seconds, "images": self.images}

    def done(self, part: float, seconds: float) -> float:
        """Part of the run that is over, `part` of the present epoch and its `seconds` included."""
        if self.recipe.minutes is not None:
            return (self.seconds + seconds) / (60 * self.recipe.minutes)
        return (self.epoch + part) / (self.recipe.epochs or 1)

    def fit(self, photos: Photos, checkpoint: Path) -> None:
        """Train to the end of the recipe; a checkpoint after every epoch."""
        while self.done(0, 0) < 1:
            self.one_epoch(photos)
            self.save(checkpoint)

    def one_epoch(self, photos: Photos) -> None:
        """Every training photo once on average, drawn with the recipe's balance."""
        torch.manual_seed(self.recipe.seed * 100_003 + self.epoch)
        self.net.train()
        start, loss = time.perf_counter(), float("nan")
        batches = whole_batches(drawn(photos, self.recipe.balance), self.recipe.batch)
        bar = tqdm(batches, desc=f"epoch {self.epoch + 1}", unit="batch", mininterval=10)
        for number, rows in enumerate(bar):
            done = self.done(number / len(batches), time.perf_counter() - start)
            if done >= 1:
                break
            current = self.step(photos.take(rows), photos.label[rows], done)
            loss = current if math.isnan(loss) else 0.98 * loss + 0.02 * current
            bar.set_postfix(loss=f"{loss:.3f}", done=f"{done:.1%}", refresh=False)
            self.images += len(rows)
        self.epoch, self.seconds = self.epoch + 1, self.seconds + time.perf_counter() - start

    def step(self, pixels: Tensor, label: Tensor, done: float) -> float:
        """One update from pixels (N, 3, H, W) uint8 and labels (N,); returns the loss."""
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(done)
        small = recipe.small_side is not None and done < recipe.small_part
        views = self.views(pixels.to(self.device), recipe.small_side if small else self.net.layout.side)
        partner, share = torch.arange(len(views)), 1.0
        if done < 1 - recipe.plain_part:
            views, partner, share = mix(views, recipe.augmentation)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.fast):
            logits = self.forward(views).float()
        label = label.to(self.device)
        loss = share * self.loss(logits, label)
        if share < 1:
            loss = loss + (1 - share) * self.loss(logits, label[partner])
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimizer.step()
        self.averaged.update_parameters(self.net)
        return loss.item()

    def views(self, pixels: Tensor, side: int) -> Tensor:
        """Augmented input of the net, minus the mean, in the recipe's channel order."""
        if self.recipe.shift is not None:
            views = shifted_views(pixels, self.recipe.shift)
        else:
            views = random_views(pixels, side, self.recipe.augmentation)
        views = views.flip(1) if self.recipe.order == "BGR" else views
        return (views - self.mean).contiguous(memory_format=torch.channels_last)

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Cross entropy with smoothed labels."""
        return functional.cross_entropy(logits, label, label_smoothing=self.recipe.smoothing)


def whole_batches(rows: Tensor, size: int) -> tuple[Tensor, ...]:
    """The rows in batches of one size, for which a compiled net is made; a rest is left out where there is a batch."""
    return rows[: len(rows) // size * size].split(size) if len(rows) > size else (rows,)


def drawn(photos: Photos, balance: float) -> Tensor:
    """Row numbers of one epoch: a permutation without balance, otherwise drawn with replacement."""
    rows = photos.training()
    if balance == 0:
        return rows[torch.randperm(len(rows))]
    counts = torch.bincount(photos.label[rows], minlength=len(photos.classes)).float()
    weight = counts.clamp(min=1).pow(-balance)[photos.label[rows]]
    return rows[torch.multinomial(weight, len(rows), replacement=True)]
