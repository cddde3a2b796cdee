"""A page's translation says what the page says: same commands, figures, names and chapters."""

from __future__ import annotations

import re

import pytest

from tests.pages import FENCE, README, TRANSLATIONS, blocks, links, prose, read
from tests.paths import REPO

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)*(?:e[+-]?\d+)?(?: ?%)?", re.ASCII)
CHINESE = re.compile(r"[\u4e00-\u9fff]")

PAIRS = list(TRANSLATIONS.items())


def chapters(text: str) -> list[str]:
    """What stands before the first `##`, and each chapter, without blocks of code."""
    return re.split(r"^## ", prose(text), flags=re.MULTILINE)


def headings(text: str) -> list[str]:
    """The hashes of all headings in order."""
    return re.findall(r"^(#+) ", prose(text), re.MULTILINE)


def rows(text: str) -> list[str]:
    return [line for line in prose(text).splitlines() if line.startswith("|")]


def numbers(text: str) -> list[str]:
    """All numbers, with their percent sign, in order."""
    return [number.rstrip(",").replace(" ", "") for number in NUMBER.findall(text)]


def figures(text: str) -> set[str]:
    """Numbers with a decimal point, an exponent or a percent sign."""
    return {number for number in numbers(text) if re.search(r"[.e%]", number)}


def code(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


def test_what_must_be_translated_is():
    assert TRANSLATIONS == {
        README: "README_cn.md",
        "docs/align-your-pair.md": "docs/zh/align-your-pair.md",
        "docs/train.md": "docs/zh/train.md",
    }


@pytest.mark.parametrize("language", ["bash", "yaml", "python", "text"])
@pytest.mark.parametrize(("page", "translation"), PAIRS)
def test_blocks_are_the_same_in_the_same_order(page, translation, language):
    assert blocks(language, read(translation)) == blocks(language, read(page))


@pytest.mark.parametrize(("page", "translation"), PAIRS)
def test_output_is_the_same_and_a_translated_block_names_nothing_else(page, translation):
    english, chinese = FENCE.findall(read(page)), FENCE.findall(read(translation))
    assert [language for language, _ in chinese] == [language for language, _ in english]
    assert len(english) >= 3
    for (_, ours), (_, theirs) in zip(chinese, english, strict=True):
        if CHINESE.search(ours):
            words = re.compile(r"[\w./-]*[A-Za-z0-9][\w./-]*", re.ASCII)
            assert set(words.findall(ours)) <= set(words.findall(theirs))
        else:
            assert ours == theirs


@pytest.mark.parametrize(("page", "translation"), PAIRS)
def test_headings_have_the_same_levels_in_the_same_order(page, translation):
    assert headings(read(translation)) == headings(read(page))
    assert "##" in headings(read(page))


@pytest.mark.parametrize(("page", "translation"), PAIRS)
def test_tables_hold_the_same_numbers_row_by_row(page, translation):
    theirs, ours = rows(read(page)), rows(read(translation))
    assert [numbers(row) for row in ours] == [numbers(row) for row in theirs]


@pytest.mark.parametrize(("page", "translation"), PAIRS)
def test_chapter_has_the_same_figures_and_names(page, translation):
    names = code(prose(read(page)))
    for english, chinese in zip(chapters(read(page)), chapters(read(translation)), strict=True):
        title = english.splitlines()[0]
        assert figures(chinese) == figures(english), title
        assert code(english) <= code(chinese), title
        assert code(chinese) <= names, title


@pytest.mark.parametrize(("page", "translation"), PAIRS)
def test_chapter_is_in_chinese(page, translation):
    assert all(CHINESE.search(chapter) for chapter in chapters(read(translation)))
    assert not CHINESE.search(prose(read(page)).replace("[中文]", ""))


def test_numbers_are_seen_however_they_are_written():
    text = "33,446,609 of 64.80, 100 % and 46%（1e-05），3.3.1。"
    assert numbers(text) == ["33,446,609", "64.80", "100%", "46%", "1e-05", "3.3.1"]
    assert figures(text) == {"64.80", "100%", "46%", "1e-05", "3.3.1"}


@pytest.mark.parametrize(("page", "translation"), PAIRS)
def test_each_links_to_the_other_at_the_top(page, translation):
    for one, other in ((page, translation), (translation, page)):
        first = links("\n".join(read(one).splitlines()[:5]))
        targets = {(REPO / one).parent.joinpath(link).resolve() for link in first}
        assert (REPO / other).resolve() in targets


@pytest.mark.parametrize(("page", "translation"), PAIRS)
def test_links_lead_where_the_pages_do_or_to_translations(page, translation):
    def targets(name: str) -> list[str]:
        found = []
        for link in links(read(name)):
            path = link.partition("#")[0]
            file = link if path.startswith("https://") else (REPO / name).parent.joinpath(path)
            file = str(file if file == link else file.resolve().relative_to(REPO))
            found.append(TRANSLATIONS.get(file, file))
        return sorted(target for target in found if target not in (page, translation))

    assert targets(translation) == targets(page)
