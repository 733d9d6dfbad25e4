"""What tests of evaluators share."""


def measure(evaluator, sources, at_once=10):
    """What an evaluator makes of images, so many at once; the passes that it announces must be those that it makes."""
    passes = []
    loaded = [evaluator.preparation(source) for source in sources]
    found = [
        item
        for start in range(0, len(loaded), at_once)
        for item in evaluator(loaded[start : start + at_once], passes.append)
    ]
    assert sum(passes) == len(sources) * evaluator.passes_per_image
    return found
