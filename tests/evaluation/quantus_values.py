"""Writes quantus_values.json, what Quantus 0.6.0 makes of the maps below: python -m tests.evaluation.quantus_values.

Quantus (Hedström et al. 2023, JMLR) needs scipy, scikit-image, pandas and more; the tests read the file alone.
"""

import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "quantus_values.json"
VERSION = "0.6.0"
CELLS = [(1, 1, 0, 0), (0, 1, 1, 0), (1, 0, 0, 1), (0, 0, 1, 1)]


def maps(seed, height=13, width=10):
    """(4, h, w): grainy maps of both signs; the last has many pixels alike."""
    generator = np.random.default_rng(seed)
    found = generator.normal(0.02, 1, (4, height, width)) * generator.exponential(1, (4, height, width))
    found[3] = found[3].round()
    return found


def masks(height=13, width=10):
    """(4, h, w) booleans: masks of all sizes, the smallest a single pixel."""
    found = np.random.default_rng(3).random((4, height, width)) < np.array([0.05, 0.2, 0.5, 0.0])[:, None, None]
    found[:, 6, 4] = True
    return found


def photo():
    """(3, 12, 11) within 0..1, and which of its pixels are removed, (12, 11): a corner, a border, an island."""
    removed = np.zeros((12, 11), bool)
    removed[:4, :3] = removed[7:, 8:] = removed[5:8, 4:7] = True
    removed[2, 9] = True
    return np.random.default_rng(5).random((3, 12, 11)), removed


def main():
    import quantus
    from quantus.functions.perturb_func import noisy_linear_imputation
    from quantus.functions.similarity_func import correlation_spearman, cosine

    assert quantus.__version__ == VERSION
    left, right = maps(1), maps(2)
    metric = {"disable_warnings": True, "normalise": False, "return_aggregate": False}
    logit = quantus.RandomLogit(
        num_classes=5, similarity_func=lambda a, b, **_: [1 - cosine(one, two) for one, two in zip(a, b, strict=True)],
        abs=False, **metric,
    )  # fmt: skip
    logit.explain_batch = lambda *_: right
    sparseness = quantus.Sparseness(abs=True, **metric)
    complexity = quantus.EfficientMPRT(complexity_func_kwargs={"n_bins": 100}, **metric)
    image, removed = photo()
    values = {
        "quantus": VERSION,
        "class": logit.evaluate_batch(None, np.zeros((4, 3)), np.zeros(4, int), left),
        # Quantus adds 1e-7 to every size: large maps, so that it does not matter.
        "gini": sparseness.evaluate_batch(None, np.abs(1e4 * left)),
        "entropy": [[complexity.evaluate_instance(None, None, None, one, None) for one in both]
                    for both in (left, right)],
        "last_layer": correlation_spearman(
            np.abs(left).reshape(4, -1), np.abs(right).reshape(4, -1), batched=True
        ).tolist(),
        "focus": quantus.Focus(**metric).evaluate_batch(left[:, None], CELLS).tolist(),
        # Quantus sums relevance with its sign, and takes equal values in any order: no map with many of them.
        "mass": quantus.RelevanceMassAccuracy(**metric).evaluate_batch(np.maximum(left, 0), masks()).tolist(),
        "rank": quantus.RelevanceRankAccuracy(**metric).evaluate_batch(left[:3], masks()[:3]).tolist(),
        "road": noisy_linear_imputation(image, np.flatnonzero(removed), noise=0.0).round(9).tolist(),
    }  # fmt: skip
    FILE.write_text(json.dumps(values, default=lambda array: array.tolist()) + "\n")


if __name__ == "__main__":
    main()
