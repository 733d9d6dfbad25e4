"""Builds sdist and wheel twice, in two folders at two times, and compares them: `python .ci/packages.py [FOLDER]`.

Both builds have to be the same byte for byte, the wheel of the unpacked sdist too; the sdist has to hold what git
has, and the wheel the package, its configs and its manual pages; links of the readme in them lead to web addresses.
FOLDER gets the two files.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pathspec

ROOT = Path(__file__).resolve().parents[1]
EARLY, LATE = 1_000_000_000, 1_700_000_000
"""Times of change of the files of both builds, in seconds since 1970."""
LITTER = ("lrpcli/__pycache__/x.pyc", "tests/__pycache__/x.pyc", ".mypy_cache/x", "out/x.png", "dist/x", "notes.txt")
"""What lies about where someone works, and belongs in no package."""
WHEEL = {"lrpcli/": "lrpcli/", "configs/": "lrpcli/configs/", "man/": "{data}/data/share/man/man1/"}
"""Where the wheel has the files of these folders; `{data}` is its folder for files outside the package."""


def project_files() -> list[str]:
    """Paths of all files of the project: those of git, or of the sdist that this was unpacked from."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    ignored = pathspec.GitIgnoreSpec.from_lines((ROOT / ".gitignore").read_text().splitlines())
    found = (path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file())
    return [name for name in found if name != "PKG-INFO" and not ignored.match_file(name)]


def copy(names: Iterable[str], folder: Path, changed: int, mode: int) -> None:
    """The files in another folder, with another time of change and other rights."""
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
        target.chmod(mode)
        os.utime(target, (changed, changed))


def litter(folder: Path) -> None:
    """Files that no package may hold."""
    for name in LITTER:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("litter")


def build(folder: Path, into: Path, *targets: str, **environment: str) -> list[Path]:
    """What hatchling makes of a folder: a wheel, and before it comes an sdist where that is asked for."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SOURCE_DATE_EPOCH")}
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(into)]
    command += [part for target in targets for part in ("--target", target)]
    done = subprocess.run(command, cwd=folder, env={**kept, **environment}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{folder} cannot be built: {done.stderr or done.stdout}")
    return sorted(into.iterdir(), reverse=True)


def contents(package: Path) -> dict[str, bytes]:
    """The files in a package by path; of an sdist, below its one folder."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    with tarfile.open(package) as sdist:
        members = [member for member in sdist if member.isfile()]
        return {member.name.partition("/")[2]: sdist.extractfile(member).read() for member in members}


def difference(one: Path, other: Path) -> str | None:
    """How two packages differ, or None if they are the same bytes."""
    if one.name == other.name and one.read_bytes() == other.read_bytes():
        return None
    first, second = contents(one), contents(other)
    names = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    return f"{one} and {other} differ in {', '.join(names) or 'how they are packed'}."


def wheel_paths(wheel: Path, names: Iterable[str]) -> set[str]:
    """Where a wheel should have the files of the project."""
    data = "-".join(wheel.name.split("-")[:2]) + ".data"
    moved = ((name, old, new) for name in names for old, new in WHEEL.items() if name.startswith(old))
    return {new.format(data=data) + name.removeprefix(old) for name, old, new in moved}


def wrong_contents(sdist: Path, wheel: Path, names: Iterable[str]) -> list[str]:
    """What is in a package and should not be, or the other way round."""
    packed, expected = set(contents(sdist)), {*names, "PKG-INFO"}
    installed = {name for name in contents(wheel) if not PurePosixPath(name).parts[0].endswith(".dist-info")}
    pairs = ((sdist, packed, expected), (wheel, installed, wheel_paths(wheel, names)))
    surplus = [f"{package.name} holds {name}." for package, found, wanted in pairs for name in sorted(found - wanted)]
    missing = [f"{package.name} lacks {name}." for package, found, wanted in pairs for name in sorted(wanted - found)]
    return surplus + missing


def naming(package: Path, folders: Iterable[Path]) -> list[str]:
    """Files that name a folder of this machine."""
    marks = [os.fsencode(folder) for folder in folders]
    named = (name for name, data in contents(package).items() if any(mark in data for mark in marks))
    return [f"{package.name} holds {name}, which names a folder of this machine." for name in named]


def lost_links(package: Path) -> list[str]:
    """Links of the readme in a package that lead to files beside it, which an index lacks."""
    names = ("METADATA", "PKG-INFO")
    about = next(data.decode() for name, data in contents(package).items() if PurePosixPath(name).name in names)
    targets = re.findall(r"\]\((?!\w+:|#)([^)\s]+)\)", about)
    return [f"{package.name} has a readme that links to {target}." for target in targets]


def check(work: Path, names: list[str]) -> tuple[list[Path], list[str]]:
    """sdist and wheel, and what is wrong with them."""
    here, there, unpacked = work / "here", work / "another place" / "of a longer name", work / "unpacked"
    copy(names, here, EARLY, 0o644)
    copy(reversed(names), there, LATE, 0o600)
    litter(there)
    sdist, wheel = build(here, work / "1", "sdist", "wheel", TZ="UTC", LC_ALL="C", PYTHONHASHSEED="1")
    time.sleep(2)  # the least that a zip file can tell apart
    second = build(there, work / "2", "sdist", "wheel", TZ="Asia/Tokyo", LC_ALL="C.UTF-8", PYTHONHASHSEED="2")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (folder,) = unpacked.iterdir()
    again = build(folder, work / "3", "wheel")
    differences = filter(None, map(difference, [sdist, wheel, wheel], [*second, *again]))
    named = [text for package in (sdist, wheel) for text in (*naming(package, [ROOT, work]), *lost_links(package))]
    return [sdist, wheel], [*differences, *wrong_contents(sdist, wheel, names), *named]


def main() -> None:
    """Builds, compares, and keeps the packages where that is asked for."""
    with tempfile.TemporaryDirectory() as work:
        packages, wrong = check(Path(work).resolve(), project_files())
        if wrong:
            sys.exit("\n".join(wrong))
        for package in packages:
            print(f"{package.name}: {package.stat().st_size:,} bytes, the same in two builds")
            if sys.argv[1:]:
                Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
                shutil.copy(package, sys.argv[1])


if __name__ == "__main__":
    main()
