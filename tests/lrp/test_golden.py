"""Relevance of every blob agrees with the program of the paper's authors, for all that both can do.

tests/golden/README.md says what that program computes, and where it is known to be wrong ("oddities").
"""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lrpcli import Explainer, LocalResponseNorm, load_model
from tests.lrp import reference
from tests.lrp.helpers import agree, redistributed

FOLDER = Path(__file__).resolve().parents[1] / "golden"
TOLERANCE = 1e-4  # of the largest relevance of a blob
FORMULAS = {
    "0": ("epsilon", "epsilon"),
    "2": ("alpha-beta", "alpha-beta"),
    "100": ("alpha-beta", "epsilon"),
    "114": ("alpha-beta", "epsilon"),  # alpha-beta up to a layer index; the stored ones are the last convolution's
    # As 0, 2 and 100, but flat or w^2 up to a layer index:
    "54": ("epsilon", "epsilon"),
    "56": ("epsilon", "epsilon"),
    "58": ("alpha-beta", "alpha-beta"),
    "60": ("alpha-beta", "alpha-beta"),
    "102": ("alpha-beta", "epsilon"),
    "104": ("alpha-beta", "epsilon"),
}
FIRST = {"54": "flat", "58": "flat", "102": "flat", "56": "w-square", "60": "w-square", "104": "w-square"}
FLAT_FACTOR = 3  # flat gives 1 / (kernel height x width) to each of the 3 channels of the first convolution
LEFT_OUT = re.compile(
    r"""f26_|f166_          # deconvolution and guided backpropagation: no relevance
      | _bias1              # the bias shared out among the products, padding included: docs/rules.md does not have it
      | f(54|56|102|104)_.*_aux[3468]_  # flat and w^2 in a second convolution: what they lose to padding is no constant
    """,
    re.VERBOSE,
)
# Configs compared, and blobs compared in them, per file: a test that compared nothing would fail.
COUNTS = {
    "caffenet_tiny_default__img": (23, 151),
    "caffenet_tiny_strong__rand": (71, 427),
    "caffenet_tiny_strong_eqbias__rand": (23, 207),
    "nopool_tiny_strong__rand": (53, 248),
}


def load(file):
    with np.load(FOLDER / f"{file}.npz") as archive:
        stored = dict(archive.items())
    model = load_model(FOLDER / f"{file.partition('__')[0]}.caffemodel", input_shape=stored["input"].shape[1:])
    return stored, json.loads(str(stored["meta"]))["configs"], model


def config_of(name, options):
    """Our config for one of theirs."""
    if name == "grad":  # score times gradient
        return {"kind": {"any": "gradient"}, "start": "logit"}
    formula = name.partition("_")[0][1:]
    parameters = {
        "epsilon": {"rule": "epsilon", "epsilon": options["epsstab"]},
        "alpha-beta": {"rule": "alpha-beta", "beta": options["alphabeta_beta"]},
    }
    convolution, fully_connected = FORMULAS[formula]
    config = {
        "start": "one" if options["has_init_relevance"] else "logit",
        "kind": {
            "convolution": parameters[convolution],
            "fully-connected": parameters[fully_connected],
            "lrn": "taylor-unnormalized" if options["lrn_backward_type"] == 1 else "identity",
            "max-pool": "average" if options["maxpoolingtoavgpoolinginbackwardpass"] else "winner",
        },
    }
    if formula in FIRST:
        config["position"] = {"first": FIRST[formula]}
    return config


def wrong_below_conv2(file, config):
    """Oddity 2: alpha-beta gives the second group of conv2 the biases of the first."""
    rule = config["kind"].get("convolution", {})
    return rule and rule["rule"] == "alpha-beta" and "eqbias" not in file


def compare(ours, theirs, blob, config):
    first = config.get("position", {}).get("first")
    if blob == "data" and first:
        # What they lose to padding reaches 4 pixels into the image.
        ours, theirs = ours[..., 4:-4, 4:-4], theirs[..., 4:-4, 4:-4]
        ours = ours * FLAT_FACTOR if first == "flat" else ours
    return agree(ours.reshape(theirs.shape), theirs, TOLERANCE)


def explained(model, x, config, options):
    """Relevance of every blob, in their shapes up to axes of length 1; several classes are one start for them."""
    targets = torch.tensor([options["classinds"]])
    result = Explainer(model, config, dtype=torch.float64)(x, targets, keep_layers=True)
    blobs = {name: value.sum(1) for name, value in result.layers.items()}
    return blobs | {"data": result.relevance.sum(1)}, result.logits


@pytest.mark.parametrize("file", COUNTS)
def test_every_blob_agrees(file):
    stored, configs, model = load(file)
    x = torch.from_numpy(stored["input"]).double()
    worst, compared, blobs = 0.0, 0, 0
    for name, options in configs.items():
        if LEFT_OUT.search(name):
            continue
        config = config_of(name, options)
        ours, logits = explained(model, x, config, options)
        agree(logits.flatten(), stored["scores"].flatten(), 1e-5)
        names = [key.split("/")[2] for key in stored if key.startswith(f"R/{name}/")]
        if wrong_below_conv2(file, config):
            names = names[names.index("conv2") :]
        worst = max([worst, *(compare(ours[blob], stored[f"R/{name}/{blob}"], blob, config) for blob in names)])
        compared, blobs = compared + 1, blobs + len(names)
    print(f"{file}: {compared} configs, {blobs} blobs, worst difference {worst:.1e} of the largest relevance")
    assert (compared, blobs) == COUNTS[file]


@pytest.mark.parametrize("file", COUNTS)
def test_taylor_agrees_after_multiplying_back_the_sum_of_the_terms(file):
    """Their messages are not divided by the sum of an output's terms: taylor on R times that sum gives the same."""
    stored, configs, model = load(file)
    norms = {name: layer for name, layer in model.module.named_children() if isinstance(layer, LocalResponseNorm)}
    names = [name for name, options in configs.items() if options.get("lrn_backward_type") == 1][:2]
    assert len(norms) == 2
    assert len(names) == 2
    for name, (norm, layer) in itertools.product(names, norms.items()):
        below = list(stored)[list(stored).index(f"R/{name}/{norm}") - 1].split("/")[2]
        x = stored[f"fwd/{below}"].astype(float)
        parameters = {"size": layer.size, "alpha": layer.alpha, "beta": layer.beta, "k0": layer.k,
                      "region": layer.region, "reach": layer.reach}  # fmt: skip
        sums = [terms.sum() for _, _, terms in reference.lrn_terms(x[0], **parameters)]
        arrived = torch.from_numpy(stored[f"R/{name}/{norm}"].astype(float) * np.array(sums).reshape(x.shape))
        relevance, _ = redistributed(nn.Sequential(layer), {"kind": {"lrn": "taylor"}}, torch.from_numpy(x), arrived)
        agree(relevance, stored[f"R/{name}/{below}"], TOLERANCE)
