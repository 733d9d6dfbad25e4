"""What a report is asked to do, as plain data. Imports nothing heavy."""

from dataclasses import dataclass

from lrpcli.setting import setting

SINGLE = 100
"""Images that a report in a single file holds at most."""
PAGE = "index.html"
"""The report's name in the output folder."""
FOLDER = "lrp-report"
"""The folder of its pictures, beside it."""


@dataclass(frozen=True)
class ReportSettings:
    """Which results the page of an output folder shows beside its own, and how it is made."""

    others: tuple[str, ...] = setting(
        (), flags=("--with",), metavar="OTHER",
        help="Also show what another run made of each image, found by its name in OTHER, the output folder of that "
        "run. Can be given several times.",
    )  # fmt: skip
    labels: str | None = setting(
        None, metavar="FILE",
        help="The model's class names, one a line, as lrp explain takes them: groups then also know folders called by "
        "synset ids or other names of a class.",
    )  # fmt: skip
    single_file: bool = setting(
        False, help=f"Put all pictures into {PAGE} itself, for up to {SINGLE} images: one file to pass on."
    )
    jobs: int | None = setting(
        None, flags=("-j", "--jobs"), metavar="N", least=1, most=1024, shown_default="the usable CPUs",
        help="Small pictures made at once.",
    )  # fmt: skip
