"""The last step of every command: fold, round, measure, write the safetensors file and its card."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from lrpcli.images.preprocess import Preprocessing
from training.data import Photos
from training.fit import Run
from training.labels import readable
from training.layout import Layout
from training.measure import ablation, accuracy, predictions
from training.network import folded_weights, plain_net
from training.prototxt import prototxt

Table = dict[str, Any]


def finish(run: Run, photos: Photos, options: argparse.Namespace) -> None:
    """Write the averaged net of a run to the command's file, measured as it is in the file, and a card beside it."""
    layout = run.net.layout
    weights = rounded(folded_weights(run.averaged.module), getattr(torch, options.dtype))
    fields = preprocessing_fields(layout, run, options.resize)
    measured = measure(layout, weights, photos, Preprocessing(**fields))
    metadata = {
        "name": layout.name,
        "prototxt": prototxt(layout),
        "preprocessing": json.dumps(fields),
        "labels": "\n".join(readable(folder) for folder in photos.classes),
        "licence": options.licence,
        "data": described_data(photos),
        "accuracy": json.dumps(measured),
        "recipe": json.dumps(asdict(run.recipe) | run.counts() | {"torch": torch.__version__}),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(save(weights, metadata))
    options.out.with_suffix(".md").write_text(card(layout, weights, measured, metadata), encoding="utf-8")
    report(options.out, measured)


def rounded(weights: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights in the file's type. ValueError if a value would overflow."""
    small = {name: tensor.to(dtype) for name, tensor in weights.items()}
    for name, tensor in small.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} does not fit {dtype}: its largest value is {weights[name].abs().max():g}.")
    return small


def preprocessing_fields(layout: Layout, run: Run, resize: int | None) -> Table:
    """What lrpcli.images.Preprocessing needs; the photo is squashed to resize x resize and its centre is cut out."""
    return {
        "size": [layout.side, layout.side],
        "resize": [resize, resize] if resize else None,
        "channel_order": run.recipe.order,
        "pixel_scale": 1.0,
        "mean": [round(value, 3) for value in run.mean.flatten().tolist()],
        "std": [1.0, 1.0, 1.0],
    }


def measure(layout: Layout, weights: dict[str, Tensor], photos: Photos, preprocessing: Preprocessing) -> Table:
    """Accuracy on the held-out photos, in percent, and what it becomes with the normalisation broken."""
    rows = torch.nonzero(photos.held_out).flatten()
    if not len(rows):
        return {"photos": 0}
    table = accuracy(photos, rows, predictions(plain_net(layout, weights), photos, rows, preprocessing))
    broken = ablation(lambda: plain_net(layout, weights), photos, rows, preprocessing)
    return table | {"photos": len(rows), "ablation": broken}


def described_data(photos: Photos) -> str:
    """How many photos of each source were trained on and held out."""
    lines = []
    for number, name in enumerate(photos.sources):
        here = photos.source == number
        held_out = int((here & photos.held_out).sum())
        lines.append(f"{name}: {int(here.sum()) - held_out} photos for training, {held_out} held out")
    return "; ".join(lines)


def card(layout: Layout, weights: dict[str, Tensor], measured: Table, metadata: dict[str, str]) -> str:
    """A page about the file, in Markdown."""
    count = sum(tensor.numel() for tensor in weights.values())
    kind = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    numbers = {name: value for name, value in measured.items() if name not in ("photos", "ablation")}
    rows = [f"| {name} | {value} % |" for name, value in (numbers | measured.get("ablation", {})).items()]
    return "\n".join(
        [
            f"# {layout.name}\n",
            f"{count:,} parameters, {kind}; input {layout.side} x {layout.side}.\n",
            f"- Data: {metadata['data']}",
            f"- Licence: {metadata['licence']}",
            f"- Preprocessing: `{metadata['preprocessing']}`",
            f"- Recipe: `{metadata['recipe']}`\n",
            f"On {measured['photos']} held-out photos:\n",
            "| | |\n| --- | --- |",
            *rows,
            "\n```\n" + metadata["prototxt"] + "```\n",
        ]
    )


def report(path: Path, measured: Table) -> None:
    """Print what was written and how good it is."""
    kind = next(iter(load_file(path).values())).dtype
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, {str(kind).removeprefix('torch.')}")
    for name, value in measured.items():
        if isinstance(value, dict):
            print("  " + ", ".join(f"{key}: {number} %" for key, number in value.items()))
        else:
            print(f"  {name}: {value}" + ("" if name == "photos" else " %"))
