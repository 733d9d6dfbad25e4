"""Which measures are taken: those that are asked for, as far as images and model allow."""

from dataclasses import dataclass

from lrpcli.errors import UsageError
from lrpcli.evaluation.settings import MEASURES, USUAL, EvaluationSettings


@dataclass(frozen=True)
class Allowed:
    """What images and model allow: `boxes`, class `folders`, `masks`, and how many `outputs` (None: unknown).

    `outputs` of 1: there is no other class.
    """

    boxes: bool
    folders: bool
    outputs: int | None
    masks: bool = False

    def refusal(self, measure: str) -> str | None:
        """Why a measure cannot be taken; None if it can."""
        if measure == "localisation" and not self.boxes:
            return "localisation needs the boxes of objects, --boxes FILE"
        if measure == "ground-truth" and not self.masks:
            return "ground-truth needs pictures that mark the objects, --masks DIR"
        if measure == "focus" and not self.folders:
            return (
                "focus needs images in folders named after classes of the model (its index, label or synset id): two "
                "classes, and two images of one of them"
            )
        if measure == "class" and self.outputs == 1:
            return "class needs a model with more than one output"
        return None


def choose_measures(settings: EvaluationSettings, allowed: Allowed) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The measures in the order of MEASURES, and sentences about those that --all leaves out.

    UsageError for one that is named and cannot be taken. Boxes add localisation to whatever is named, and masks
    ground-truth.
    """
    wanted = set(MEASURES if settings.all_measures else settings.measures or USUAL)
    if allowed.boxes:
        wanted.add("localisation")
    if allowed.masks:
        wanted.add("ground-truth")
    chosen = [(measure, allowed.refusal(measure)) for measure in MEASURES if measure in wanted]
    refused = [reason for _, reason in chosen if reason is not None]
    if refused and not settings.all_measures:
        raise UsageError(f"The measure {refused[0]}.")
    left_out = tuple(f"The measure {reason}: it is left out." for reason in refused)
    return tuple(measure for measure, reason in chosen if reason is None), left_out
