"""The Python of the documentation runs: the blocks of a page in order, as one program. So do examples in docstrings."""

import doctest
import inspect
import sys

import pytest

import lrpcli
from tests.documentation.pages import ROOT, all_pages, blocks

PAGES = [page for page in all_pages() if any(block.runs and block.language == "python" for block in blocks(page))]
NAMES = [name for name in lrpcli.__all__ if name != "__version__"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_runs(page, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))  # where the files of a page lie, which it imports
    for path in folder.glob("*.py"):
        monkeypatch.delitem(sys.modules, path.stem, raising=False)  # another file of that name, of whatever ran before
    names = {"__name__": page.stem}
    for block in blocks(page):
        if block.runs and block.language == "python":
            exec(compile("\n" * block.line + block.text, page.relative_to(ROOT), "exec"), names)


@pytest.mark.parametrize("name", NAMES)
def test_examples_of_public_names_give_what_they_show(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    runner, shown = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), []
    for example in doctest.DocTestFinder().find(inspect.unwrap(getattr(lrpcli, name)), name, globs={}):
        runner.run(example, out=shown.append)
    assert runner.failures == 0, "".join(shown)
    assert runner.tries > 0, f"the docstring of lrpcli.{name} has no example"
