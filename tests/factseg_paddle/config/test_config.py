"""Configurations: what is read, merged and written, and that every mistake is told apart."""

import errno
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factseg_paddle.config.loading import (
    _merged,
    as_plain,
    change_config,
    load_config,
    make_config,
    save_config,
)
from factseg_paddle.config.paths import PathText
from factseg_paddle.config.schema import PATH_KEYS, Config
from factseg_paddle.config.transforms import TRANSFORMS
from factseg_paddle.folders import CHECKOUT, base_folder
from factseg_paddle.models import list_models
from tests.paths import REPO

# The files of configs/ ------------------------------------------------------------------------


CONFIGS = REPO / "configs"
RUNNABLE = [
    file.relative_to(CONFIGS).with_suffix("").as_posix()
    for file in sorted(CONFIGS.rglob("*.yml"))
    if not file.name.startswith("_")  # those are bases of others
]


@pytest.mark.parametrize("name", RUNNABLE)
def test_configuration_opens_with_its_command_and_makes_its_network(name):
    file = CONFIGS / f"{name}.yml"
    first = file.read_text("utf-8").splitlines()[0]
    assert first.startswith(f"# python scripts/train.py --config configs/{name}.yml")
    config = load_config(file)
    if "/" in name:
        folder, network = name.split("/")
        assert config.model.name == network
        assert network in list_models()
        assert config.train.save_dir == str(REPO / "output" / folder / network)


@pytest.mark.parametrize("name", [n for n in RUNNABLE if n.startswith("isaid/")])
def test_networks_of_the_table_train_by_factsegs_recipe(name):
    theirs = as_plain(load_config(CONFIGS / f"{name}.yml"))
    ours = as_plain(load_config(CONFIGS / "factseg_r50_isaid.yml"))
    for values in theirs, ours:
        del values["model"], values["loss"], values["train"]["save_dir"]
    assert theirs == ours


# The file that each starts from; None: random weights, as in the authors' configurations.
STARTS = {
    "isaid/denseaspp_densenet121": "densenet121-a639ec97",
    "isaid/denseunet_densenet121": "densenet121-a639ec97",
    "isaid/fcn8s_vgg16_pad1": "vgg16-397923af",
    "isaid/pspnet_resnet50_os8": None,
    "isaid/refinenet_resnet50": None,
    "isaid/unet_transposed_w32": None,
    "voc/fcn8s_vgg16_bn": "vgg16_bn-6c64b313",
    "voc/segnet_vgg16_bn": "vgg16_bn-6c64b313",
    "voc/unet_bilinear_w32": None,
    "isaid/deeplabv3_resnet50_aspp1x1": "resnet50-19c8e357",
    "isaid/deeplabv3plus_resnet50_separable": "resnet50-19c8e357",
    "isaid/farseg_resnet50": "resnet50-19c8e357",
    "isaid/resunet_resnet50": "resnet50-19c8e357",
    "isaid/semanticfpn_resnet50": "resnet50-19c8e357",
    "voc/deeplabv3_resnet50_dropout50": "resnet50-19c8e357",
    "voc/deeplabv3plus_resnet50_two3x3": "resnet50-19c8e357",
    "voc/fastfcn_resnet50_os16": "resnet50-19c8e357",
    "voc/fcn8s_resnet50": "resnet50-19c8e357",
    "voc/pspnet_resnet50_os16": "resnet50-19c8e357",
    "voc/refinenet_resnet50_crp2": "resnet50-19c8e357",
}


@pytest.mark.parametrize(("name", "file"), STARTS.items())
def test_other_networks_start_from_their_backbone_and_learn_by_all_pixels(name, file):
    config = load_config(CONFIGS / f"{name}.yml")
    pretrained = file and str(REPO / f"weights/{file}.pdparams")
    assert (config.model.pretrained, config.model.options) == (pretrained, {})
    loss = config.loss
    if config.model.name == "farseg_resnet50":
        assert (loss.kind, loss.gamma, loss.annealing_steps) == ("annealed_focal", 2.0, 10_000)
    else:
        assert (loss.kind, loss.sampling, loss.aux_weight) == ("cross_entropy", "mean", None)


@pytest.mark.parametrize("name", [n for n in RUNNABLE if n.startswith("voc/")])
def test_recipes_of_the_two_articles(name):
    config = load_config(CONFIGS / f"{name}.yml")
    names = ["random_scale", "normalize", "random_crop", "horizontal_flip"]
    assert [transform.name for transform in config.data.transforms] == names
    scale, _, crop, flip = config.data.transforms
    assert (scale.minimum, scale.maximum, crop.size, flip.probability) == (0.5, 2.0, 512, 0.5)
    optimizer, train = config.optimizer, config.train
    assert (optimizer.schedule, optimizer.milestones) == ("step", [])
    assert (optimizer.clip_norm, optimizer.warmup_iters) == (None, 0)
    assert (config.data.kind, config.data.num_classes, config.data.voc.val) == ("voc", 21, "val")
    if name == "voc/fcn8s_vgg16_bn":
        assert (optimizer.kind, optimizer.learning_rate, train.batch_size) == ("momentum", 0.05, 4)
        assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 1e-4)
        assert config.data.voc.train == "trainaug"
        normalization = config.data.normalization
        assert normalization.mean == (103.53, 116.28, 123.675)
        assert normalization.std == (57.375, 57.12, 58.395)
        assert normalization.channel_order == "bgr"
    else:
        assert (optimizer.kind, optimizer.learning_rate, train.batch_size) == ("adam", 1e-3, 32)
        assert (optimizer.weight_decay, config.data.voc.train) == (0, "train")
        assert config.data.normalization.channel_order == "rgb"


def test_published_recipe_is_what_the_facts_say():
    config = load_config(REPO / "configs/factseg_r50_isaid.yml")
    assert [as_plain(config)["data"][k] for k in ("kind", "num_classes", "ignore_index")] == [
        "isaid", 16, 255,
    ]  # fmt: skip
    assert [transform.name for transform in config.data.transforms] == [
        "horizontal_flip", "vertical_flip", "rot90", "pad", "normalize",
    ]  # fmt: skip
    horizontal, vertical, _, pad, normalize = config.data.transforms
    assert (horizontal.probability, vertical.probability, pad.size) == (0.5, 0.5, 896)
    assert normalize.mean == [123.675, 116.28, 103.53]
    assert normalize.std == [58.395, 57.12, 57.375]
    assert (config.data.patch_size, config.data.stride) == (896, 512)
    assert (config.eval.patch_size, config.eval.stride) == (896, 512)
    model = config.model
    assert (model.name, model.options) == ("factseg_resnet50", {})
    assert model.pretrained == str(REPO / "weights/resnet50-19c8e357.pdparams")
    assert (config.loss.sampling, config.loss.ratio) == ("som", 0.1)
    assert config.optimizer.model_dump() == {
        "kind": "momentum", "learning_rate": 0.007, "schedule": "poly", "power": 0.9,
        "end_learning_rate": 0.0, "milestones": [], "gamma": 0.1, "warmup_iters": 0,
        "head_lr_factor": 1.0, "momentum": 0.9, "weight_decay": 1e-4, "clip_norm": 35.0,
    }  # fmt: skip
    train = config.train
    assert (train.iters, train.batch_size, config.seed) == (60_000, 8, 2333)
    assert (train.log_iters, train.save_interval, train.eval_interval) == (50, 500, 5000)
    assert (train.amp.level, train.amp.init_loss_scaling) == ("O1", 1024.0)


def test_defaults_are_the_published_recipe_but_for_paths_mixed_precision_and_augmentation():
    recipe = as_plain(load_config(REPO / "configs/factseg_r50_isaid.yml"))
    defaults = as_plain(Config())
    for section, key in (("model", "pretrained"), ("train", "save_dir"), ("train", "amp")):
        del recipe[section][key], defaults[section][key]
    assert [t["name"] for t in defaults["data"].pop("transforms")] == ["normalize"]
    del recipe["data"]["transforms"]
    assert recipe == defaults


def test_road_tiles_are_split_into_disjoint_halves(shared_data):
    data = load_config(REPO / "configs/gsi_roads.yml").data
    train, val = (set(Path(split.names).read_text().split()) for split in (data.train, data.val))
    assert (len(train), len(val), len(train & val)) == (27, 9, 0)
    images = shared_data("gsi_roads/images")
    assert train | val == {file.stem for file in images.iterdir()}


# Reading and merging --------------------------------------------------------------------------


def test_empty_file_is_the_defaults(write):
    assert load_config(write("")) == Config()


def test_bases_are_changed_key_by_key_and_lists_are_replaced(write, tmp_path):
    (tmp_path / "sub").mkdir()
    write("train: {iters: 10, batch_size: 2}\neval: {scales: [1.0, 2.0]}", "sub/one.yml")
    write("train: {iters: 20, amp: {level: O2}}", "two.yml")
    config = load_config(
        write("_base_: [sub/one.yml, two.yml]\ntrain: {batch_size: 3}\neval: {scales: [0.5]}")
    )
    assert (config.train.iters, config.train.batch_size) == (20, 3)
    assert config.train.amp.level == "O2"
    assert config.train.amp.init_loss_scaling == 1024.0
    assert config.eval.scales == [0.5]


def test_base_of_a_base_lies_relative_to_its_own_file(write, tmp_path):
    (tmp_path / "sub").mkdir()
    write("seed: 5", "sub/one.yml")
    write("_base_: one.yml", "sub/two.yml")
    assert load_config(write("_base_: sub/two.yml")).seed == 5


def test_options_come_after_files_and_flags_after_options(write):
    path = write("train: {iters: 1, batch_size: 1, log_iters: 1}")
    opts = ["train.batch_size=2", "train.log_iters=2", "optimizer.weight_decay=1e-3"]
    config = load_config(path, opts, {"train.log_iters": 3})
    assert (config.train.iters, config.train.batch_size, config.train.log_iters) == (1, 2, 3)
    assert config.optimizer.weight_decay == 0.001


def test_option_that_gives_a_section_leaves_its_other_keys(write):
    path = write("train: {amp: {init_loss_scaling: 8.0}}")
    assert load_config(path, ["train.amp={level: O1}"]).train.amp.init_loss_scaling == 8.0


nested = st.recursive(
    st.integers(0, 3),
    lambda values: st.dictionaries(st.sampled_from("abc"), values, max_size=3),
    max_leaves=8,
)
sections = st.dictionaries(st.sampled_from("abc"), nested, max_size=3)


def leaves(values, prefix=()):
    """{path: value} of all that is no section."""
    found = {}
    for key, value in values.items():
        inner = leaves(value, (*prefix, key)) if isinstance(value, dict) else None
        found.update(inner if inner is not None else {(*prefix, key): value})
    return found


@given(below=sections, above=sections)
def test_merging_keeps_all_of_the_layer_above_and_what_it_does_not_touch(below, above):
    merged = leaves(_merged(below, above))
    upper = leaves(above)
    assert upper.items() <= merged.items()
    for path, value in merged.items():
        assert path in upper or leaves(below)[path] == value
    # a section below is kept but where a value above takes its place
    for path in leaves(below).keys() - merged.keys():
        assert any(path[:n] in upper for n in range(1, len(path) + 1)) or _is_section(above, path)
    assert _merged(_merged(below, above), above) == _merged(below, above)


def _is_section(values, path):
    for part in path:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return isinstance(values, dict)


# Writing --------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
paths = text.map("p".__add__) | st.sampled_from(["/", ".", "..", "/a/../b", f"{REPO}/~a", "~/a"])
share = st.floats(0, 1)


def transform_lists():
    flips = st.sampled_from(["horizontal_flip", "vertical_flip"])
    some = st.one_of(
        st.fixed_dictionaries({"name": flips, "probability": share}),
        st.just({"name": "rot90"}),
        st.fixed_dictionaries({"name": st.just("random_crop"), "size": st.just(96)}),
        st.fixed_dictionaries(
            {"name": st.just("color_jitter"), "brightness": share, "hue": st.floats(0, 0.5)}
        ),
    )
    channels = st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=3)
    last = st.fixed_dictionaries({"name": st.just("normalize"), "mean": channels, "std": channels})
    return st.tuples(st.lists(some, max_size=4), last).map(lambda pair: [*pair[0], pair[1]])


split = st.none() | st.fixed_dictionaries({"image_dir": text}, optional={"names": paths})
values = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "device": st.sampled_from([None, "cpu", "gpu", "gpu:3"]),
        "data": st.fixed_dictionaries(
            {
                "kind": st.just("folder"),
                "dataset_root": paths,
                "train": st.fixed_dictionaries({"image_dir": text}),
                "val": split,
                "class_names": st.none() | st.lists(text, min_size=16, max_size=16),
                "mask_suffix": text | st.sampled_from(["1e-4", "no", "0x1f", "010", "~", "=", ""]),
                "transforms": transform_lists(),
            }
        ),
        "optimizer": st.fixed_dictionaries(
            {
                "learning_rate": st.floats(1e-300, 1e300),
                "clip_norm": st.none() | st.floats(1e-9, 1e22),
            }
        ),
        "train": st.fixed_dictionaries(
            {
                "iters": st.integers(1, 10**18 - 1),
                "do_eval": st.booleans(),
                "amp": st.fixed_dictionaries({"level": st.sampled_from(["O1", "O2", None])}),
            }
        ),
    }
)


@settings(max_examples=60, deadline=None)
@given(values=values)
def test_saved_configuration_is_read_back_as_it_is(values, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "saved.yml"
    config = make_config(values, "here")
    save_config(config, path)
    assert load_config(path) == config
    assert make_config(as_plain(config), "plain") == config


def test_saved_text_that_looks_like_a_number_stays_a_text(tmp_path):
    """PyYAML's own writer leaves 1e-4 unquoted, which `load_config` would take for a number."""
    config = make_config({"data": {"kind": "folder", "train": {"image_dir": "1e-4"}}}, "here")
    save_config(config, tmp_path / "saved.yml")
    assert load_config(tmp_path / "saved.yml").data.train.image_dir == "1e-4"


def test_saved_shared_list_is_written_out_twice(tmp_path):
    """PyYAML's own writer makes an alias of it, which `load_config` refuses."""
    mean = [1.0, 2.0, 3.0]
    transforms = [{"name": "normalize", "mean": mean, "std": mean}]
    config = make_config({"data": {"transforms": transforms}}, "here")
    save_config(config, tmp_path / "saved.yml")
    assert load_config(tmp_path / "saved.yml") == config


def test_saved_next_line_character_does_not_become_a_space(tmp_path):
    """PyYAML's own writer folds it."""
    config = make_config({"data": {"kind": "folder", "train": {"image_dir": "a\x85b"}}}, "here")
    save_config(config, tmp_path / "saved.yml")
    assert load_config(tmp_path / "saved.yml") == config


def test_chinese_names_stay_readable(tmp_path):
    config = make_config({"train": {"save_dir": "/运行/一"}}, "here")
    save_config(config, tmp_path / "saved.yml")
    assert "/运行/一" in (tmp_path / "saved.yml").read_text("utf-8")


def test_disk_that_is_full_leaves_the_older_file(tmp_path, monkeypatch):
    save_config(Config(seed=1), tmp_path / "saved.yml")

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        save_config(Config(seed=2), tmp_path / "saved.yml")
    monkeypatch.undo()
    assert load_config(tmp_path / "saved.yml").seed == 1
    assert [file.name for file in tmp_path.iterdir()] == ["saved.yml"]


# Paths ----------------------------------------------------------------------------------------


def test_path_in_a_file_is_taken_from_the_repository(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(write("data: {dataset_root: x/y}\nmodel: {weights: /w.pdparams}"))
    assert config.data.dataset_root == str(REPO / "x/y")
    assert config.model.weights == "/w.pdparams"
    assert config.train.save_dir == str(REPO / "output/train")
    assert base_folder() == CHECKOUT == REPO


def test_path_of_an_option_or_flag_is_taken_from_the_current_folder(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opts = ["data.dataset_root=../x", "data.kind=folder", "data.train={image_dir: i, names: n}"]
    config = load_config(write(""), opts, {"train.save_dir": "run"})
    assert config.data.dataset_root == str(tmp_path / "../x")
    assert config.train.save_dir == str(tmp_path / "run")
    assert config.data.train.names == str(tmp_path / "n")
    assert config.data.train.image_dir == "i"


def test_what_is_written_holds_for_another_checkout(tmp_path):
    config = make_config({"data": {"dataset_root": f"{REPO}/data/isaid"}}, "here")
    save_config(config, tmp_path / "saved.yml")
    assert "dataset_root: data/isaid\n" in (tmp_path / "saved.yml").read_text("utf-8")
    assert as_plain(config)["train"]["save_dir"] == "output/train"


def test_configuration_at_hand_is_changed_as_a_file_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config(seed=7)
    changed = change_config(config, "the run", ["train.iters=3"], {"train.save_dir": "x"})
    assert (changed.seed, changed.train.iters) == (7, 3)
    assert changed.train.save_dir == str(tmp_path / "x")
    assert change_config(config, "the run") == config


def test_tilde_is_the_home_folder(write, monkeypatch):
    monkeypatch.setenv("HOME", "/home/one")
    config = load_config(write("data: {dataset_root: ~/isaid}"), ["train.save_dir=~/run"])
    assert (config.data.dataset_root, config.train.save_dir) == (
        "/home/one/isaid",
        "/home/one/run",
    )


def test_path_keys_are_those_that_the_schema_marks():
    def marked(section, prefix=""):
        for key, field in section.model_fields.items():
            inner = field.annotation
            parts = [inner, *getattr(inner, "__args__", ())]
            nested = next(
                (p for p in parts if isinstance(p, type) and hasattr(p, "model_fields")), 0
            )
            if nested:
                yield from marked(nested, f"{prefix}{key}.")
            elif PathText.__metadata__[0] in field.metadata or PathText in parts:
                yield prefix + key

    assert sorted(marked(Config)) == sorted(PATH_KEYS)


# Small things ---------------------------------------------------------------------------------


def test_normalization_is_that_of_the_transforms(write):
    path = write("data: {transforms: [{name: rot90}, {name: normalize, mean: [1, 2, 3]}]}")
    assert load_config(path).data.normalization.mean == (1.0, 2.0, 3.0)
    assert Config().data.normalization.std == (58.395, 57.12, 57.375)
    assert Config().data.normalization.channel_order == "rgb"


def test_yaml_values_are_those_of_version_1_2(write):
    path = write("data: {kind: folder, train: {image_dir: no}, mask_suffix: 1:30}\nseed: 010")
    config = load_config(path)
    assert (config.data.train.image_dir, config.data.mask_suffix, config.seed) == (
        "no", "1:30", 10,
    )  # fmt: skip


def test_configuration_can_not_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Config().train.iters = 3


def test_transforms_are_found_by_their_names():
    assert len(TRANSFORMS) == 8
    assert all(kind(**_needed(name)).name == name for name, kind in TRANSFORMS.items())


def _needed(name):
    return {"name": name} | ({"size": 32} if name in ("pad", "random_crop") else {})
