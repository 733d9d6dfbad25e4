"""Pages are found, links within the project lead somewhere, lines are short, and nothing escapes the tests unseen."""

import json
import re
import tomllib

import pytest

from lrpcli import load_composite
from tests.documentation.pages import (
    DOCS,
    ROOT,
    all_pages,
    anchors,
    blocks,
    in_reading_order,
    links,
    links_with_places,
    within_the_project,
)

LANGUAGES = {"sh", "console", "python", "toml", "json", "text", "pycon"}
REASONS = ("needs the network", "needs the training data", "takes minutes", "takes hours")
WIDTH = 120


def named(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [*all_pages(), ROOT / "CHANGELOG.md"], ids=named)
def test_links_lead_to_files_that_exist(page):
    for target in links(page):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", all_pages(), ids=named)
def test_links_lead_to_headings_that_exist(page):
    for target, place in links_with_places(page):
        other = (page.parent / target).resolve() if target else page
        assert not place or other.suffix != ".md" or place in anchors(other), f"{page.name} links to {target}#{place}"


def test_links_to_the_projects_own_address_are_links_to_files():
    source = "https://git.example/lrp"
    page = DOCS / "models" / "cifar10.md"
    assert within_the_project(f"{source}/blob/v1.2.3/docs/cli.md", page, source) == "../cli.md"
    assert within_the_project(f"{source}/raw/main/LICENSE", ROOT / "README.md", source) == "LICENSE"
    assert within_the_project("https://arxiv.org/abs/1604.00825", page, source) is None
    assert within_the_project("mailto:a@b.example", page, None) is None
    assert within_the_project("../cli.md", page, source) == "../cli.md"


def test_the_index_is_reached_from_the_readme():
    assert {"docs/index.md", "docs/glossary.md", "llms.txt"} <= set(links(ROOT / "README.md"))


def test_llms_txt_lists_every_page_with_a_line():
    text = (ROOT / "llms.txt").read_text()
    assert re.match(r"# lrp\n\n> ", text)
    entries = re.findall(r"^- \[.+?\]\((.+?)\): \S.*$", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^- ", text, re.MULTILINE)) == len(set(entries))
    assert all((ROOT / entry).exists() for entry in entries)
    assert {(ROOT / entry).resolve() for entry in entries} >= {ROOT / "README.md", *DOCS.glob("**/*.md")} - {
        DOCS / "index.md"
    }


def test_the_glossary_is_in_the_order_of_the_alphabet():
    words = re.findall(r"^### (.+)$", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    assert words == sorted(words, key=str.lower) and len(words) > 19


@pytest.mark.parametrize("page", all_pages(), ids=named)
def test_a_word_of_the_glossary_is_linked_where_it_stands_first(page):
    text = re.sub(r"<!-- \[\[\[cog.*?end\]\]\] -->|^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(#|\||    ).*$|!?\[[^\[\]]*\]\((?!\S*glossary\.md#)[^)]*\)|`[^`]*`", "", text, flags=re.MULTILINE)
    for word, place in re.findall(r"\[([^\]]+)\]\([\w./-]*glossary\.md#([\w-]+)\)", text):
        first = re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text, re.IGNORECASE)
        assert text[first.start() - 1] == "[", f"{page.name} has {word!r} before its link to #{place}"


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
        if block.mark == "run by":
            assert f'"{page.name}"' in (ROOT / block.value).read_text(), f"{block.place}: {block.value!r}"
        assert block.mark not in ("not run", "rehearsed") or block.value.startswith(REASONS), (
            f"{block.place}: {block.value!r}"
        )


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
