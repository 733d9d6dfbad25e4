"""The notebook runs from its first cell to its last, its cells show something, and it is stored without output."""

import ast
import json
import os
import shutil
import subprocess
import sys

from tests.documentation.pages import DOCS, ROOT

NOTEBOOK = DOCS / "tour.ipynb"
FORMATS = ("_repr_png_", "_repr_html_")


def cells(kind):
    """The sources of the cells of a kind, in order."""
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == kind]


def run(source, names):
    """Runs a cell as a notebook does, and gives the value of its last line if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)


def run_all():
    """Runs the notebook here, and prints what each cell shows."""
    names = {"__name__": "__main__"}
    for number, source in enumerate(cells("code")):
        shown = run(source, names)
        pictures = [getattr(shown, name)() for name in FORMATS if hasattr(shown, name)]
        print(number, type(shown).__name__, max(map(len, pictures), default=0))


def test_every_cell_runs_and_shows_what_it_should(tmp_path):
    """In a process of its own, as pyplot is one thing for a whole process."""
    (tmp_path / "docs").mkdir()
    shutil.copytree(ROOT / "sample_images", tmp_path / "sample_images")
    code = "from tests.documentation.test_notebook import run_all; run_all()"
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path / "docs", env=environment,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = {}
    for line in done.stdout.splitlines():
        if line.split()[0].isdecimal() and len(line.split()) == 3:
            number, kind, size = line.split()
            shown[int(number)] = (kind, int(size))
    assert shown.keys() == set(range(len(cells("code"))))
    assert shown[0][0] == "ImageResult" and shown[0][1] > 20_000
    assert sum(kind == "NoneType" for kind, _ in shown.values()) < len(shown) - 2
    assert list((tmp_path / "docs").iterdir()) == []  # it leaves nothing behind


def test_it_is_stored_small_and_without_output():
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert NOTEBOOK.stat().st_size < 20_000 and content["nbformat"] == 4
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])


def test_its_links_lead_to_files_that_exist():
    targets = [part.split(")")[0] for text in cells("markdown") for part in text.split("](")[1:]]
    assert targets and all((DOCS / target.partition("#")[0]).exists() for target in targets)
