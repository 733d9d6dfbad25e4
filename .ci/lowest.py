"""Prints the lowest version that pyproject.toml allows of everything that the package needs, as constraints for pip."""

import re
import tomllib
from itertools import chain
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def lowest_versions() -> dict[str, str]:
    """Name of each dependency, optional ones too, and the version after its ">="."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    needed = chain(project["dependencies"], *project["optional-dependencies"].values())
    bounds = (re.match(r"([\w-]+)>=([\w.]+)", line) for line in needed)
    return {bound[1]: bound[2] for bound in bounds if bound}


if __name__ == "__main__":
    print(*(f"{name}=={version}" for name, version in lowest_versions().items()), sep="\n")
    print("pyparsing<3.3")  # which warns of names that matplotlib 3.10.0 uses, and the tests make errors of warnings
