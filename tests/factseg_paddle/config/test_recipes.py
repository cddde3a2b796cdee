"""The names of the configurations that come with the project."""

from __future__ import annotations

import pytest

from factseg_paddle.config.loading import ConfigError, load_config
from factseg_paddle.config.recipes import find_config, list_recipes, shipped_file
from tests.paths import REPO

CONFIGS = REPO / "configs"


def test_names_are_those_of_the_files_that_can_be_run():
    files = [file for file in CONFIGS.rglob("*.yml") if not file.name.startswith("_")]
    assert len(files) >= 23
    assert {CONFIGS / f"{name}.yml" for name in list_recipes()} == set(files)


@pytest.mark.parametrize("name", list_recipes())
def test_a_name_gives_what_its_file_gives(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(name) == load_config(CONFIGS / f"{name}.yml")


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text("seed: 77")
    assert load_config("quickstart").seed == 77


def test_a_folder_of_that_name_does_not_hide_the_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    assert find_config("quickstart") == CONFIGS / "quickstart.yml"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("quikstart", "quikstart is neither a file nor a recipe; did you mean quickstart?"),
        ("isaid/farseg", r"isaid/farseg is neither .*; did you mean isaid/farseg_resnet50"),
        ("zzz", "recipes are factseg_r50_isaid, gsi_roads, isaid/"),
        ("quickstart.yml", "the configuration quickstart.yml does not exist"),
        ("isaid", "recipes are|did you mean"),
        ("../configs/quickstart", "neither a file nor a recipe"),
        ("voc/_classic", "neither a file nor a recipe"),
    ],
)
def test_a_name_that_means_nothing_is_explained(name, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=sentence) as error:
        load_config(name)
    assert "\n" not in str(error.value)


def test_a_folder_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match="is no file"):
        load_config(tmp_path)


class TestInAWheel:
    """What `configs/…` means in a recipe where it lies in the package."""

    @pytest.fixture(autouse=True)
    def _wheel(self, tmp_path, monkeypatch):
        monkeypatch.setattr("factseg_paddle.config.recipes.CHECKOUT", None)
        monkeypatch.setattr("factseg_paddle.config.recipes.RECIPES", tmp_path)

    def test_in_a_recipe_it_is_the_file_beside_it(self, tmp_path):
        found = shipped_file(tmp_path / "a.yml", "configs/names.txt")
        assert found == str(tmp_path / "names.txt")
        assert shipped_file(tmp_path / "a.yml", "data/isaid") == "data/isaid"

    def test_in_a_file_of_ones_own_it_stays(self):
        assert shipped_file(REPO / "configs/a.yml", "configs/names.txt") == "configs/names.txt"


def test_in_a_checkout_it_stays():
    assert shipped_file(CONFIGS / "gsi_roads.yml", "configs/names.txt") == "configs/names.txt"
