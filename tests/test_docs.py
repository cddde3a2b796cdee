"""The pages are up to date, lead to what exists, and make a site that needs no network."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from tests.pages import PAGES, TRANSLATIONS, links, prose, read
from tests.paths import REPO

ALL = [*PAGES, *TRANSLATIONS.values()]

WRITTEN = {"index/", "color/", "overlay/", "error/", "predictions/", "worst/"}
"""What commands write into a folder of their own."""

FOR_READERS = ("output/", "data/", "weights/", "VOCdevkit/", "benchmark_RELEASE/")
"""How paths begin that a reader has or makes."""


@pytest.mark.parametrize("page", ALL)
def test_links_lead_to_files_or_the_web(page):
    for link in links(read(page)):
        target = link.partition("#")[0]
        assert link.startswith("https://") or (REPO / page).parent.joinpath(target).exists(), link


@pytest.mark.parametrize("page", ALL)
def test_paths_exist(page):
    for path in re.findall(r"`([\w.-]+/[\w./-]*)`", prose(read(page))):
        if path in WRITTEN or path.startswith(FOR_READERS) or "tinynet" in path:
            continue
        places = (path, f"factseg_paddle/{path}", f"configs/{path}.yml")  # the last is a recipe
        assert any((REPO / place).exists() for place in places), path


@pytest.mark.parametrize("page", ALL)
def test_modules_and_attributes_exist(page):
    """Dotted names of our packages are imported as far as they are modules."""
    ours = r"`((?:alignment|factseg_convert|factseg_paddle|factseg_proof|torch_ref)(?:\.\w+)+)"
    for name in re.findall(ours, prose(read(page))):
        module, _, attribute = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), attribute), name


@pytest.fixture
def configuration(monkeypatch):
    """The module that writes the page."""
    monkeypatch.syspath_prepend(REPO / "docs" / "tools")
    return importlib.import_module("configuration")


def test_keys_of_the_configuration_are_up_to_date(configuration):
    page = read("docs/configuration.md")
    assert configuration.with_keys(page) == page, "run python docs/tools/configuration.py"


def test_every_key_of_the_schema_is_described(configuration):
    from factseg_paddle.config.schema import Config

    page = read("docs/configuration.md")
    described = {section for _, section in configuration.sections(Config)}
    assert len(described) == 11
    for section in described:
        assert all(f"| `{key}` |" in page for key in section.model_fields), section


def test_a_page_without_the_markers_is_refused(configuration):
    with pytest.raises(ValueError, match="lacks the markers"):
        configuration.with_keys("# Configuration\n")


def test_messages_of_the_configuration_page_are_those_of_today(tmp_path):
    from factseg_paddle.config.loading import ConfigError, load_config

    (tmp_path / "a.yml").write_text("data: {batch_size: 4}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as unknown:
        load_config(tmp_path / "a.yml")
    with pytest.raises(ConfigError) as misspelt:
        load_config(REPO / "configs" / "quickstart.yml", ["train.itres=3"])
    messages = [str(error.value).removeprefix(f"{tmp_path}/") for error in (unknown, misspelt)]
    shown = [f"factseg train: {message}" for message in messages]
    assert "\n".join(shown) in read("docs/configuration.md")


def test_picture_of_the_calibration_is_the_measured_one():
    measured = REPO / "factseg_proof" / "calibration" / "calibration.png"
    assert (REPO / "docs" / "images" / "calibration.png").read_bytes() == measured.read_bytes()


def test_pictures_are_small():
    sizes = {path.name: path.stat().st_size for path in (REPO / "docs" / "images").iterdir()}
    assert sizes
    assert all(size < 200_000 for size in sizes.values()), sizes


def test_table_of_faults_is_the_same_wherever_it_stands():
    pages = ("README.md", "README_cn.md", "docs/faults.md")
    bodies = [read(page).partition("| PaDiff")[2].partition("\n\n")[0] for page in pages]
    tables = [[re.findall(r"\d+", row) for row in body.splitlines()[2:]] for body in bodies]
    assert [len(row) for row in tables[0]] == [7] * 8
    assert tables[0] == tables[1] == tables[2]


class Fetched(HTMLParser):
    """What a browser fetches for a page: addresses of scripts, styles, pictures and fonts."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {"script": "src", "img": "src", "link": "href", "iframe": "src"}
        address = dict(attrs).get(names.get(tag, ""))
        if address:
            self.addresses.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_site_has_every_page(site):
    names = [Path(page).relative_to("docs").with_suffix(".html") for page in ALL if "docs/" in page]
    assert len(names) >= 13
    assert all((site / name).is_file() for name in names)


def test_site_fetches_nothing_from_the_network(site):
    pages = list(site.rglob("*.html"))
    assert pages
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.addresses
        assert not [a for a in parser.addresses if re.match(r"(https?:)?//", a)], page
        local = [a.partition("?")[0].partition("#")[0] for a in parser.addresses]
        missing = [
            a for a in local if a and page.name != "404.html" and not (page.parent / a).exists()
        ]
        assert not missing, page


def test_every_page_of_docs_is_in_the_navigation():
    class Loader(yaml.SafeLoader):
        """Takes the tags that mkdocs.yml may hold."""

    Loader.add_multi_constructor("", lambda *_: None)
    text = yaml.load((REPO / "mkdocs.yml").read_text(encoding="utf-8"), Loader)

    def targets(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        values = entry.values() if isinstance(entry, dict) else entry
        return [target for value in values for target in targets(value)]

    found = {str(path.relative_to(REPO / "docs")) for path in (REPO / "docs").rglob("*.md")}
    assert set(targets(text["nav"])) == found
