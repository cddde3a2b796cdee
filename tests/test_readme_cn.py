"""The Chinese README says what the English one says: same commands, figures, names and chapters."""

from __future__ import annotations

import re

import pytest

from tests.paths import REPO
from tests.test_readme import README, blocks

README_CN = (REPO / "README_cn.md").read_text(encoding="utf-8")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)*(?:e[+-]?\d+)?(?: ?%)?", re.ASCII)


def chapters(text: str) -> list[str]:
    """What stands before the first `##`, and each chapter, without blocks of code."""
    return re.split(r"^## ", FENCE.sub("", text), flags=re.MULTILINE)


def headings(text: str) -> list[str]:
    """The hashes of all headings in order."""
    return re.findall(r"^(#+) ", FENCE.sub("", text), re.MULTILINE)


def rows(text: str) -> list[str]:
    return [line for line in FENCE.sub("", text).splitlines() if line.startswith("|")]


def numbers(text: str) -> list[str]:
    """All numbers, with their percent sign, in order."""
    return [number.rstrip(",").replace(" ", "") for number in NUMBER.findall(text)]


def figures(text: str) -> set[str]:
    """Numbers with a decimal point, an exponent or a percent sign."""
    return {number for number in numbers(text) if re.search(r"[.e%]", number)}


def code(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


CHAPTERS = list(zip(chapters(README), chapters(README_CN), strict=True))


@pytest.mark.parametrize("language", ["bash", "yaml", "python", "text"])
def test_blocks_are_the_same_in_the_same_order(language):
    assert blocks(language)
    assert blocks(language, README_CN) == blocks(language)


def test_output_is_the_same_and_a_translated_block_names_nothing_else():
    english, chinese = FENCE.findall(README), FENCE.findall(README_CN)
    assert [language for language, _ in chinese] == [language for language, _ in english]
    assert [language for language, _ in english].count("") >= 3
    for (_, ours), (_, theirs) in zip(chinese, english, strict=True):
        if re.search(r"[\u4e00-\u9fff]", ours):
            words = re.compile(r"[\w./-]*[A-Za-z0-9][\w./-]*", re.ASCII)
            assert set(words.findall(ours)) <= set(words.findall(theirs))
        else:
            assert ours == theirs


def test_headings_have_the_same_levels_in_the_same_order():
    assert headings(README_CN) == headings(README)
    assert {"##", "###"} <= set(headings(README))


def test_tables_hold_the_same_numbers_row_by_row():
    assert [numbers(row) for row in rows(README_CN)] == [numbers(row) for row in rows(README)]
    assert any(figures(row) for row in rows(README))


@pytest.mark.parametrize(("english", "chinese"), CHAPTERS, ids=range(len(CHAPTERS)))
def test_chapter_has_the_same_figures_and_names(english, chinese):
    assert figures(chinese) == figures(english)
    assert code(english) <= code(chinese)
    assert not {name for name in code(chinese) if name not in README}


def test_numbers_are_seen_however_they_are_written():
    text = "33,446,609 of 64.80, 100 % and 46%（1e-05），3.3.1。"
    assert numbers(text) == ["33,446,609", "64.80", "100%", "46%", "1e-05", "3.3.1"]
    assert figures(text) == {"64.80", "100%", "46%", "1e-05", "3.3.1"}


def test_each_links_to_the_other_at_the_top():
    assert "[中文](README_cn.md)" in README.splitlines()[:5]
    assert "[English](README.md)" in README_CN.splitlines()[:5]


@pytest.mark.parametrize("text", [README, README_CN], ids=["README.md", "README_cn.md"])
def test_links_lead_to_files_or_the_web(text):
    links = re.findall(r"\]\(([^)]+)\)", FENCE.sub("", text))
    assert len(links) >= 3
    for link in links:
        assert link.startswith("https://") or (REPO / link).exists(), link


def test_paths_of_the_chinese_readme_exist():
    paths = re.findall(r"`([\w./]+/[\w./]*)`", README_CN)
    assert len(paths) >= 20
    for path in paths:
        if not path.startswith("output"):
            assert (REPO / path).exists() or (REPO / "factseg_paddle" / path).exists(), path
