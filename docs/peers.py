"""What other LRP programs do, asked of their packages and of small nets: writes docs/peers.json for the README's table.

    pip download --no-deps --only-binary=:all: --dest wheels zennit captum innvestigate autolrp
    python docs/peers.py wheels

Needs torch beside them, and what the packages import. Times are those of docs/performance.md. `table` makes the table
from the stored answers, so that the README is checked without the packages.
"""

import json
import re
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

from lrpcli import __version__

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parents[1]
STORED = ROOT / "docs" / "peers.json"
TITLES = {"lrpcli": "lrp", "zennit": "Zennit", "captum": "Captum", "autolrp": "autoLRP", "innvestigate": "iNNvestigate"}
TIMES = {"lrpcli": "epsilon-plus", "zennit": "Zennit EpsilonPlus", "autolrp": "autoLRP z-plus"}
"""Which line of docs/performance.md has the time of an epsilon-plus map, by package."""
FORMATS = ("caffemodel", "onnx", "pt2", "safetensors")
MADE_UP = {1980, 2016}
"""Years that build tools write where a wheel is to have no date of its own; so is the second of February 2020."""

Answers = dict[str, str]
Relevance = Callable[["torch.nn.Module", "torch.Tensor"], "torch.Tensor"]


def date_in(wheel: zipfile.ZipFile) -> str:
    """The month of the newest file in a wheel, or "" where its dates are made up."""
    year, month, day = max(member.date_time for member in wheel.infolist())[:3]
    return "" if year in MADE_UP or (year, month, day) == (2020, 2, 2) else f"{year}-{month:02}"


def described(path: Path) -> tuple[str, Answers]:
    """Name of the package in a wheel, and what its metadata and its source say."""
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        about = Parser().parsestr(wheel.read(next(n for n in names if n.endswith(".dist-info/METADATA"))).decode())
        entries = "".join(wheel.read(n).decode() for n in names if n.endswith(".dist-info/entry_points.txt"))
        source = "".join(wheel.read(n).decode() for n in names if n.endswith(".py")).lower()
        needed = " ".join(about.get_all("Requires-Dist", []))
        found = {
            "version": about["Version"],
            "date": date_in(wheel),
            "licence": about["License-Expression"] or about["License"],
            "library": "TensorFlow" if "tensorflow" in needed else "PyTorch",
            "command": ", ".join(re.findall(r"^(\S+)\s*=", entries.partition("[console_scripts]")[2], re.MULTILINE)),
            "formats": ", ".join(name for name in FORMATS if name in source),
            "lrn": "" if re.search(r"\blrn|local_?response", source) else "its source has none",
        }
    return about["Name"].lower(), found


def ours() -> Answers:
    """The same of this package, as it is installed."""
    from lrpcli.models.importers import TABLE

    commands = [entry.name for entry in distribution("lrpcli").entry_points if entry.group == "console_scripts"]
    return {
        "version": distribution("lrpcli").version,
        "date": "",
        "licence": "MIT",
        "library": "PyTorch",
        "command": ", ".join(commands),
        "formats": ", ".join(name for name in FORMATS if any(name in suffix for suffix in TABLE)),
        "lrn": "",
        "again": run_twice(),
    }


def run_twice() -> str:
    """What a second run of the same folder does with images that are finished."""
    line = [sys.executable, "-m", "lrpcli", "explain", "--model", "cifar10", "--json", str(ROOT / "sample_images")]
    with tempfile.TemporaryDirectory() as output:
        for _ in range(2):
            done = subprocess.run([*line, output], capture_output=True, text=True, check=True)
    summary = json.loads(done.stdout.splitlines()[-1])
    return f"the second run skips {summary['skipped']} of {summary['images']}"


def nets() -> dict[str, "torch.nn.Module"]:
    """Two nets for inputs (1, 8, 3, 3): one with LRN, and one with a layer that programs seldom have a rule for."""
    import torch

    class Cumulative(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cumsum(x, 1)

    torch.manual_seed(0)
    lrn = torch.nn.LocalResponseNorm(5, alpha=1.0, beta=0.75, k=1.0)
    return {
        name: torch.nn.Sequential(first, torch.nn.Flatten(), torch.nn.Linear(72, 1, bias=False)).double()
        for name, first in (("lrn", lrn), ("odd", Cumulative()))
    }


def by_lrp(net: "torch.nn.Module", x: "torch.Tensor") -> "torch.Tensor":
    """The map of this package, which starts from 1."""
    import torch

    import lrpcli

    config = {"kind": {"linear": {"rule": "epsilon", "epsilon": 0.0}}}
    return lrpcli.Explainer(net, config, start="one", dtype=torch.float64)(x, target=0).relevance


def by_zennit(net: "torch.nn.Module", x: "torch.Tensor") -> "torch.Tensor":
    """Zennit's, as its documentation computes it."""
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus

    with Gradient(model=net, composite=EpsilonPlus()) as attributor:
        return attributor(x, x.new_ones(1, 1))[1]


def by_captum(net: "torch.nn.Module", x: "torch.Tensor") -> "torch.Tensor":
    """Captum's."""
    from captum.attr import LRP

    return LRP(net).attribute(x, target=0)


def by_autolrp(net: "torch.nn.Module", x: "torch.Tensor") -> "torch.Tensor":
    """autoLRP's."""
    import autolrp

    wrapped = autolrp.tensor(x)
    net(wrapped).sum().lrp(config=autolrp.LRPConfig())
    return wrapped.relevance


PROBES: dict[str, Relevance] = {
    "lrpcli": by_lrp, "zennit": by_zennit, "captum": by_captum, "autolrp": by_autolrp
}  # fmt: skip


def probed(compute: Relevance) -> Answers:
    """What a program does with both nets: a refusal, or what its map sums to, and which rule of LRN that is."""
    import torch

    x, found = torch.rand(1, 8, 3, 3, dtype=torch.float64) + 0.1, {}
    for name, net in nets().items():
        try:
            relevance = compute(net, x.clone()).detach()
        except Exception as error:
            found[name] = f"refused: {type(error).__name__}"
            continue
        found[name] = rule_of(net, x, relevance) if name == "lrn" else f"computed; {relevance.sum():.2f} of 1 arrives"
    return found


def rule_of(net: "torch.nn.Module", x: "torch.Tensor", relevance: "torch.Tensor") -> str:
    """Which rule of LRN a map (1, 8, 3, 3) of the first net comes from: to 1e-4 of its size."""
    import torch

    lrn, weight = net[0], net[2].weight.detach().view_as(x)
    y = lrn(x).detach()
    start = (weight * y / (weight * y).sum()).reshape(72, 1)
    jacobian = torch.autograd.functional.jacobian(lrn, x).reshape(72, 72)  # of outputs by inputs
    centre = x * (lrn.k + lrn.alpha / lrn.size * x**2) ** -lrn.beta  # each output without its neighbours
    terms = (jacobian * x.reshape(1, 72)).fill_diagonal_(0) + torch.diag(centre.flatten())  # to the first order
    rules = {
        "the Taylor rule": (terms / terms.sum(1, keepdim=True) * start).sum(0),
        "passed through": start.flatten(),
        "differentiated": (jacobian * start).sum(0),
    }
    error = {name: float((relevance.flatten() - rule).norm() / rule.norm()) for name, rule in rules.items()}
    best = min(error, key=lambda name: error[name])
    return best if error[best] < 1e-4 else f"another rule; {relevance.sum():.2f} of 1 arrives"


def times() -> Answers:
    """Time of an epsilon-plus map by docs/performance.md, a forward pass and an input gradient being 1."""
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    block = next(part for part in text.split("```") if "Zennit EpsilonPlus" in part)
    found = {name: re.search(rf"^{title} +([\d.]+)$", block, re.MULTILINE) for name, title in TIMES.items()}
    return {name: match[1] for name, match in found.items() if match}


Stored = dict[str, dict[str, Answers]]
LINES: dict[str, Callable[[Answers], str]] = {
    "version, month of its wheel": lambda one: ", ".join(filter(None, (one["version"], one["date"]))),
    "licence": lambda one: one["licence"],
    "explains nets of": lambda one: one["library"],
    "installed command": lambda one: f"`{one['command']}`" if one["command"] else "a library",
    "net files that its source names": lambda one: one["formats"] or "nets in memory",
    "a folder that is finished": lambda one: one.get("again", "as the caller programs it"),
    "LRN layers": lambda one: one["lrn"],
    "a layer without a rule (cumulative sum)": lambda one: one.get("odd", UNTRIED),
    "time of a z-plus map": lambda one: one["time"] or UNTRIED,
}
"""What stands before each line of the table, and what a program's answers make of it."""
UNTRIED = "open"


def table(stored: Stored) -> str:
    """The answers as a table, a column for each program."""
    programs = [stored["programs"][name] for name in TITLES]
    programs[0] = programs[0] | {"version": __version__}
    lines = [["", *TITLES.values()], ["---"] * (1 + len(programs))]
    lines += [[title, *(cell(one) for one in programs)] for title, cell in LINES.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Asks, and stores the answers."""
    warnings.simplefilter("ignore")
    answers = {"lrpcli": ours(), **dict(described(path) for path in sorted(Path(sys.argv[1]).glob("*.whl")))}
    with tempfile.TemporaryDirectory() as folder:
        for path in Path(sys.argv[1]).glob("*.whl"):
            with zipfile.ZipFile(path) as wheel:
                wheel.extractall(folder)
        sys.path.append(folder)
        for name, found in answers.items():
            found.update(probed(PROBES[name]) if name in PROBES else {}, time=times().get(name, ""))
    day = datetime.now(UTC).date().isoformat()
    STORED.write_text(json.dumps({"day": day, "programs": answers}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
