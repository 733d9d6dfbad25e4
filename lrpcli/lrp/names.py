"""Names that options take: built-in composites, rules of LRN, starts. Apart from all that needs torch, for --help."""

from functools import lru_cache
from pathlib import Path

ALIASES = {"composite": "alpha2-beta1-epsilon"}
"""Other names of built-in composites; a composite that is loaded by one bears it as its title."""
STARTS = ("logit", "one", "probability", "softmax-gradient", "contrastive", "contrastive-positive")
LRN_RULES = ("taylor", "identity", "taylor-unnormalized", "epsilon", "alpha-beta", "gradient")
"""Those that the table in rules.py has."""


def config_folder() -> Path:
    """Where the built-in composites lie: inside the installed package, or beside it in a source checkout."""
    package = Path(__file__).resolve().parents[1]
    return next(folder for folder in (package / "configs", package.parent / "configs") if folder.is_dir())


@lru_cache
def builtin_names() -> tuple[str, ...]:
    """Names of the built-in composites, aliases included, sorted."""
    return tuple(sorted({*ALIASES, *(path.stem for path in config_folder().glob("*.toml"))}))
