"""What the training commands share: options, the run from photos to file, and the progress that is printed."""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from training.data import Photos
from training.fit import Recipe, Run
from training.layout import Layout
from training.network import TrainingNet


def parser(description: str, **defaults: object) -> argparse.ArgumentParser:
    """Options of every training command."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add_argument("--data", type=Path, action="append", required=True, help="zip file or folder; repeatable")
    options.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    options.add_argument("--work", type=Path, help="folder for decoded photos and checkpoints (default: OUT.work)")
    length = options.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, help="length of the run in epochs")
    length.add_argument("--minutes", type=float, help="length of the run in minutes, whatever the machine's speed")
    options.add_argument("--seed", type=int, default=1, help="seed of all random numbers")
    options.add_argument("--threads", type=int, help="processor threads (default: torch's choice)")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where to train")
    options.add_argument("--fast", action="store_true", help="compile the net and compute in bfloat16")
    options.add_argument(
        "--dtype", choices=("float16", "float32"), default="float32", help="type of the file's numbers"
    )
    options.add_argument("--resize", type=int, help="at inference, squash to this side and cut the centre")
    options.add_argument("--licence", default="not stated", help="licence of the weights, for the file's metadata")
    options.add_argument("--export-now", action="store_true", help="train no further: write the last checkpoint's net")
    options.set_defaults(**defaults)
    return options


def adjusted(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    """The recipe with the length and seed of the command line."""
    if options.minutes is not None:
        recipe = replace(recipe, epochs=None, minutes=options.minutes)
    elif options.epochs is not None:
        recipe = replace(recipe, epochs=options.epochs, minutes=None)
    return replace(recipe, seed=options.seed)


def train(layout: Layout, photos: Photos, recipe: Recipe, options: argparse.Namespace) -> Run:
    """A finished run, continued from its checkpoint if there is one; with --export-now the checkpoint as it is."""
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(recipe.seed)
    run = Run(TrainingNet(layout), recipe, channel_mean(photos, recipe.order), options.device, fast=options.fast)
    checkpoint = work_folder(options) / "checkpoint.pt"
    if checkpoint.exists():
        run.load(checkpoint)
        print(f"continuing after epoch {run.epoch}, {run.seconds / 60:.1f} minutes", flush=True)
    if not options.export_now:
        run.fit(photos, checkpoint)
    print(f"trained {run.epoch} epochs, {run.images} photos, {run.seconds / 60:.1f} minutes", flush=True)
    return run


def work_folder(options: argparse.Namespace) -> Path:
    """Where decoded photos and checkpoints go."""
    return options.work or options.out.with_suffix(".work")


def channel_mean(photos: Photos, order: str) -> Tensor:
    """Mean pixel (3,) of every eighth training photo, in the net's channel order, rounded to three digits."""
    rows = photos.training()[::8]
    parts = [pixels.double().mean(dim=(2, 3)).sum(0) for pixels, _ in photos.batches(rows, 256)]
    mean = torch.stack(parts).sum(0) / len(rows)
    return (mean.flip(0) if order == "BGR" else mean).mul(1000).round().div(1000).float()
