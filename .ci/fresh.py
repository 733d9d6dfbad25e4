"""Installs a wheel into fresh environments, alone and with each extra alone, and explains a photo in each.

`python .ci/fresh.py WHEEL [EXTRA ...]`; an EXTRA of "" is the wheel alone. Packages come from where pip takes them, or
uv, if that is installed, which has them at hand from the second environment on.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "sample_images" / "astronaut.jpg"
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def run(*command: str | Path, folder: Path) -> str:
    """What a command prints, in a folder of its own and without the variables of this environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LRP_", "PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def install(wheel: Path, extra: str, environment: Path) -> str:
    """Makes the environment; the version of Python and of torch in it."""
    wanted, python = f"{wheel}[{extra}]" if extra else str(wheel), environment / "bin" / "python"
    here = environment.parent
    if uv := shutil.which("uv"):
        run(uv, "venv", "--python", sys.executable, environment, folder=here)
        run(uv, "pip", "install", "--python", python, wanted, folder=here)
        run(uv, "pip", "check", "--python", python, folder=here)
    else:
        run(sys.executable, "-m", "venv", environment, folder=here)
        run(python, "-m", "pip", "install", "--quiet", wanted, folder=here)
        run(python, "-m", "pip", "check", folder=here)
    about = "import sys, torch; print('Python', sys.version.split()[0], 'torch', torch.__version__)"
    return run(python, "-c", about, folder=here).strip()


def packages_of(extra: str) -> list[str]:
    """The names of the packages that an extra brings."""
    return [re.split(r"[^\w-]", line)[0] for line in EXTRAS.get(extra, ())]


def try_extra(wheel: Path, extra: str, folder: Path) -> str:
    """Installs and explains; what the command printed last."""
    environment = folder / "environment"
    versions = install(wheel, extra, environment)
    found = "import sys, importlib.metadata as m; print([m.version(name) for name in sys.argv[1:]])"
    run(environment / "bin" / "python", "-c", found, *packages_of(extra), folder=folder)
    said = run(environment / "bin" / "lrp", "explain", PHOTO, "out", folder=folder)
    for path in (folder / "out" / "astronaut.jpg.png", folder / "out" / "astronaut.jpg.npy",
                 environment / "share" / "man" / "man1" / "lrp-explain.1"):  # fmt: skip
        if not path.is_file():
            sys.exit(f"{path} is missing.")
    return f"{versions}: {said.strip().splitlines()[-1]}"


def main() -> None:
    """Every extra that was asked for, or all."""
    wheel = Path(sys.argv[1]).resolve()
    for extra in sys.argv[2:] or ["", *(name for name in EXTRAS if name != "all")]:
        with tempfile.TemporaryDirectory() as folder:
            said = try_extra(wheel, extra, Path(folder).resolve())
        print(f"{wheel.name}{f'[{extra}]' if extra else ''}, {said}", flush=True)


if __name__ == "__main__":
    main()
