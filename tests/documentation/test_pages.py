"""Pages are found, links within the project lead somewhere, lines are short, and nothing escapes the tests unseen."""

import json
import re
import tomllib

import pytest

from lrpcli import load_composite
from tests.documentation.pages import DOCS, ROOT, all_pages, blocks, in_reading_order, links

LANGUAGES = {"sh", "console", "python", "toml", "json", "text"}
REASONS = ("needs the network", "needs the package", "needs the training data", "takes minutes", "takes hours")
WIDTH = 120


def named(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [*all_pages(), ROOT / "CHANGELOG.md"], ids=named)
def test_links_lead_to_files_that_exist(page):
    for target in links(page):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_reached_from_the_readme():
    readme = (ROOT / "README.md").read_text()
    for page in sorted(DOCS.glob("*.md")):
        assert f"docs/{page.name}" in readme, page.name


def test_every_page_is_listed_in_the_index():
    assert set(in_reading_order()) == {ROOT / "README.md", *DOCS.glob("**/*.md")} - {DOCS / "index.md"}


@pytest.mark.parametrize("page", all_pages(), ids=named)
def test_lines_outside_tables_and_code_fit_120_columns(page):
    prose = re.sub(r"^(```.*?^```|<!--.*?-->)$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    too_long = [line for line in prose.splitlines() if len(line) > WIDTH and not line.startswith(("|", "    "))]
    assert not too_long


@pytest.mark.parametrize("page", all_pages(), ids=named)
def test_every_block_says_its_language_and_why_it_is_not_run(page):
    for block in blocks(page):
        assert block.language in LANGUAGES, block.place
        assert block.runs or block.value.startswith(REASONS), f"{block.place}: {block.value!r}"


@pytest.mark.parametrize("page", all_pages(), ids=named)
def test_toml_and_json_can_be_read(page):
    for block in blocks(page):
        if block.language == "toml":
            content = tomllib.loads(block.text)
            if {"kind", "position", "name"} & content.keys():
                load_composite(content)
        if block.language == "json":
            decoder, text = json.JSONDecoder(), block.text.strip()
            while text:
                _, end = decoder.raw_decode(text)
                text = text[end:].strip()
