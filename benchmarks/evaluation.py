"""What region perturbation costs beside the forward passes that it needs: python -m benchmarks.evaluation PHOTOS...

Prints the time of an evaluation without its files, that of as many forward passes in full batches of the same size,
and their ratio. Both are run in turn; the smallest time of each counts, by the clock and of the processor (which other
programs disturb less).
"""

import argparse
import json
from collections.abc import Callable, Sequence
from time import perf_counter, process_time

import torch

import lrpcli
from lrpcli.evaluation.evaluator import Evaluator
from lrpcli.evaluation.settings import EvaluationSettings, PerturbationSettings
from lrpcli.images.find import Discovery, Source
from lrpcli.lrp.batch_limit import keep_freed_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--model", default="caffenet-small")
    parser.add_argument("--prototxt")
    parser.add_argument("--preprocessing")
    parser.add_argument("--input-shape", help="C,H,W")
    parser.add_argument("--config", action="append", dest="configs")
    parser.add_argument("--lrn", action="append", default=[])
    parser.add_argument("--order", default="both")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    keep_freed_memory()
    shape = tuple(map(int, options.input_shape.split(","))) if options.input_shape else None
    model = lrpcli.load_model(
        options.model, prototxt=options.prototxt, input_shape=shape, preprocessing=options.preprocessing
    )
    settings = EvaluationSettings(
        tuple(options.configs or ["composite"]), tuple(options.lrn),
        perturbation=PerturbationSettings(steps=options.steps, order=options.order),
        device=options.device, batch_size=options.batch_size,
    )  # fmt: skip
    evaluator = Evaluator(model, settings)
    sources = list(Discovery(options.photos))[: options.images]
    passes = len(sources) * evaluator.passes_per_image
    runs = [(lambda: measure(evaluator, sources)), (lambda: forward(evaluator, passes))]
    rounds = [[timed(run) for run in runs] for _ in range(options.repeat)]
    wall, processor = ([min(times[place][kind] for times in rounds) for place in (0, 1)] for kind in (0, 1))
    print(json.dumps({
        "model": model.name, "device": str(evaluator.maps.device), "methods": len(evaluator.methods),
        "images": len(sources), "passes": passes, "batch": evaluator.batch_size,
        "evaluate_seconds": round(wall[0], 3), "forward_seconds": round(wall[1], 3),
        "ratio": round(wall[0] / wall[1], 3), "processor_ratio": round(processor[0] / processor[1], 3),
    }))  # fmt: skip


def measure(evaluator: Evaluator, sources: Sequence[Source]) -> None:
    """Everything from the files to the curves."""
    for start in range(0, len(sources), evaluator.images_at_once):
        batch = sources[start : start + evaluator.images_at_once]
        evaluator([evaluator.preparation(source) for source in batch], nothing)


def forward(evaluator: Evaluator, passes: int) -> None:
    """As many images through the net, in full batches, nothing else."""
    x = torch.randn(evaluator.batch_size, *evaluator.model.input_shape, device=evaluator.maps.device)
    for start in range(0, passes, evaluator.batch_size):
        evaluator.maps.predict(x[: passes - start])
    if x.is_cuda:
        torch.cuda.synchronize()


def nothing(passes: int) -> None:
    pass


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    started, used = perf_counter(), process_time()
    run()
    return perf_counter() - started, process_time() - used


if __name__ == "__main__":
    main()
