"""Every paper that code, configs or pages cite is in docs/references.md."""

import re

from tests.documentation.pages import DOCS, ROOT, all_pages

MARK = re.compile(r"\[[A-Z]\d{2}\]")
CITATION = re.compile(r"\b([A-Z][\w-]+) (?:et al\.|and \w+) ((?:19|20)\d{2})\b")


def citing():
    """Everything that may cite a paper, as path and text."""
    sources = [path for folder in ("lrpcli", "configs") for path in (ROOT / folder).glob("**/*")]
    wanted = [path for path in sources if path.suffix in (".py", ".toml", ".prototxt", ".md")]
    return {path: " ".join(path.read_text(encoding="utf-8").split()) for path in [*wanted, *all_pages()]}


def missing(found, listed):
    return {f"{path.relative_to(ROOT)}: {what}" for path, text in citing().items() for what in found(text) - listed}


def test_every_mark_is_explained():
    listed = set(MARK.findall((DOCS / "references.md").read_text()))
    assert not missing(lambda text: set(MARK.findall(text)), listed)


def test_every_citation_by_name_and_year_is_listed():
    listed = set(re.findall(r"^- \*\*([\w-]+)[^*]*? (\d{4})\*\*", (DOCS / "references.md").read_text(), re.MULTILINE))
    assert not missing(lambda text: set(CITATION.findall(text)), listed)


def test_every_entry_is_cited():
    texts = [text for path, text in citing().items() if path.name != "references.md"]
    for entry in (DOCS / "references.md").read_text().split("\n- ")[1:]:
        keys = [re.match(r"\*\*(.+?)\*\*", entry)[1], *MARK.findall(entry)[:1]]
        assert any(key in text for key in keys for text in texts), entry
