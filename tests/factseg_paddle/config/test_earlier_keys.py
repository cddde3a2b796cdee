"""Earlier configurations, in which FactSeg had keys of its own, mean what they meant."""

from __future__ import annotations

import json

import pytest

from factseg_paddle.aliases import ALIASES, full_name, short_name
from factseg_paddle.config.loading import ConfigError, load_config, make_config, save_config
from factseg_paddle.engine.build import build_model
from factseg_paddle.models import list_models

UNET = "unet_bilinear_w32"

# What `config.yml` and `state.json` of a run of version 0 hold of the network.
RECORDED = {
    "name": "factseg", "options": {}, "backbone": "resnet18", "output_stride": 32,
    "frozen_stages": 0, "frozen_batch_norm": False, "gradient_checkpointing": False,
    "pretrained": None, "weights": None,
}  # fmt: skip

MEANINGS = {
    "none": ({}, "factseg_resnet50", {}),
    "alias": ({"name": "factseg"}, "factseg_resnet50", {}),
    "new name": ({"name": "factseg_resnet34"}, "factseg_resnet34", {}),
    "backbone": ({"backbone": "resnet101"}, "factseg_resnet101", {}),
    "both": ({"name": "factseg", "backbone": "resnet34"}, "factseg_resnet34", {}),
    "agreeing": ({"name": "factseg_resnet34", "backbone": "resnet34"}, "factseg_resnet34", {}),
    "keys": (
        {
            "backbone": "resnet18",
            "output_stride": 16,
            "frozen_stages": 2,
            "frozen_batch_norm": True,
        },
        "factseg_resnet18",
        {"output_stride": 16, "frozen_stages": 2, "frozen_batch_norm": True},
    ),
    "recorded": (RECORDED, "factseg_resnet18", {}),
    "recorded of another": (RECORDED | {"name": UNET, "backbone": "resnet50"}, UNET, {}),
}


@pytest.mark.parametrize(("section", "name", "options"), MEANINGS.values(), ids=MEANINGS)
def test_section_means_what_it_meant(section, name, options):
    model = make_config({"model": section}, "test").model
    assert (model.name, model.options) == (name, options)


LAYERS = {
    "backbone over a recipe": ("{name: factseg_resnet50}", ["backbone=resnet18"], "_resnet18"),
    "backbone over an old recipe": ("{backbone: resnet50}", ["backbone=resnet18"], "_resnet18"),
    "name over an old recipe": ("{backbone: resnet18}", ["name=factseg_resnet101"], "_resnet101"),
    "factseg keeps the backbone": ("{backbone: resnet18}", ["name=factseg"], "_resnet18"),
    "another network": ("{backbone: resnet18}", [f"name={UNET}"], UNET),
    "the old way to another network": (
        "{backbone: resnet18}", [f"name={UNET}", "backbone=resnet50"], UNET,
    ),
    "the other way round": ("{backbone: resnet18}", ["backbone=resnet50", f"name={UNET}"], UNET),
    "and back": (f"{{name: {UNET}}}", ["name=factseg", "backbone=resnet34"], "_resnet34"),
}  # fmt: skip


@pytest.mark.parametrize(("base", "opts", "name"), LAYERS.values(), ids=LAYERS)
def test_the_last_of_file_and_options_counts(base, opts, name, write):
    config = load_config(write(f"model: {base}"), [f"model.{option}" for option in opts])
    assert config.model.name == (f"factseg{name}" if name[0] == "_" else name)


def test_option_comes_back_to_its_default(write):
    path = write("model: {output_stride: 16}")
    assert load_config(path).model.options == {"output_stride": 16}
    assert load_config(path, ["model.output_stride=32"]).model.options == {"output_stride": 32}
    assert load_config(path, ["model.options.output_stride=8"]).model.options == {
        "output_stride": 8
    }


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": UNET, "backbone": "resnet18"}, f"backbone belongs to FactSeg; {UNET} takes"),
        ({"name": UNET, "frozen_stages": 1}, f"frozen_stages belongs to FactSeg; {UNET} takes"),
        (
            {"name": "factseg_resnet18", "backbone": "resnet50"},
            "backbone is resnet50, but name is factseg_resnet18; leave backbone out",
        ),
        ({"backbone": 18}, "model.backbone is not known"),
    ],
)
def test_contradiction_is_refused(section, message):
    with pytest.raises(ConfigError, match=f"^test: (model: )?{message}"):
        make_config({"model": section}, "test")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"backbone": "resnet19"}, "network 'factseg_resnet19' is not known; did you mean"),
        ({"output_stride": 12}, "output_stride 12 is not known; use 8, 16 or 32"),
        ({"output_stride": 16.0}, "option output_stride of factseg_resnet50 is 16.0; give a value"),
        ({"frozen_stages": 6}, "frozen_stages 6 is not known"),
        ({"frozen_batch_norm": "no"}, "frozen_batch_norm of factseg_resnet50 is 'no'; .* False"),
    ],
)
def test_value_that_no_network_takes_is_refused_when_it_is_built(section, message):
    with pytest.raises(ValueError, match=message):
        build_model(make_config({"model": section}, "test").model, 3)


def test_recorded_configuration_is_written_with_todays_keys(tmp_path):
    config = make_config(json.loads(json.dumps({"model": RECORDED})), "state.json")
    save_config(config, tmp_path / "config.yml")
    assert load_config(tmp_path / "config.yml") == config
    assert "backbone" not in (tmp_path / "config.yml").read_text()


def test_aliases_are_of_networks_that_exist():
    assert set(ALIASES.values()) <= set(list_models())
    assert not set(ALIASES) & set(list_models())
    for alias, name in ALIASES.items():
        assert (full_name(alias), short_name(name)) == (name, alias)
    assert full_name(UNET) == short_name(UNET) == UNET
