"""Every mistake in a configuration is told apart, with its place and the cure."""

import errno
import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factseg_paddle.config.loading import ConfigError, load_config, make_config
from factseg_paddle.config.messages import ABSENT, Layer

MISTAKES = {
    "misspelt": ("train: {batch_siz: 4}", "a.yml: train.batch_siz is not known, did you mean "
                 "batch_size?"),
    "misspelt section": ("trian: {iters: 4}", "trian is not known, did you mean train?"),
    "wrong section": ("data: {batch_size: 4}", "data.batch_size is not known; batch_size belongs "
                      "to train or eval"),
    "no section": ("amp: {level: O1}", "amp is not known; amp belongs to train"),
    "misspelt in no section": ("learning_rat: 1.0", "learning_rat is not known, did you mean "
                               "learning_rate of optimizer?"),
    "key of the top": ("train: {seed: 1}", "train.seed is not known; seed belongs to the top"),
    "dots": ("train.iters: 4", "train.iters is not known; write a section and below it the key"),
    "unlike anything": ("zzz: 4", "a.yml: zzz is not known$"),
    "number": ("train: {iters: many}", "train.iters should be a valid integer (it is 'many')"),
    "fraction": ("train: {iters: 1.5}", "train.iters should be a valid integer (it is 1.5)"),
    "bool for int": ("train: {iters: true}", "train.iters should be a valid integer (it is True)"),
    "yes": ("train: {do_eval: yes}", "train.do_eval should be a valid boolean (it is 'yes')"),
    "null": ("train: {iters: }", "train.iters should be a valid integer (it is null)"),
    "range": ("train: {iters: 0}", "train.iters should be greater than or equal to 1 (it is 0)"),
    "choice": ("loss: {sampling: hard}", "loss.sampling should be 'som', 'ohem' or 'mean' (it is"),
    "nan": ("optimizer: {power: .nan}", "optimizer.power should be a valid number (it is '.nan')"),
    "infinity": ("optimizer: {power: 1e999}", "optimizer.power should be a finite number"),
    "5000 digits": (f"seed: {'1' * 5000}", "seed should be a valid integer (it is '1111"),
    "number as key": ("1: 2", "[1] keys should be strings"),
    "device": ("device: cuda", "device: 'cuda' is none of cpu, gpu and gpu:N"),
    "seed": ("seed: 4294967296", "seed should be less than 4294967296"),
    "section": ("train: {amp: O1}", "train.amp should be keys with values: level, init_loss_scal"),
    "list": ("train: [1]", "train should be keys with values: iters, "),
    "transform as text": ("data: {transforms: [rot90]}", "data.transforms[0] should be keys with "
                          "values: name and its own (it is 'rot90')"),
    "transform misspelt": ("data: {transforms: [{name: rot9}]}", "data.transforms[0] has the name "
                           "'rot9', did you mean rot90? The transforms are horizontal_flip, "),
    "transform unknown": ("data: {transforms: [{name: blur}]}", "data.transforms[0] has the name "
                          "'blur'; the transforms are horizontal_flip, "),
    "transform unnamed": ("data: {transforms: [{size: 3}]}", "data.transforms[0] has no name; the "
                          "transforms are horizontal_flip, "),
    "transform's key": ("data: {transforms: [{name: pad, siz: 3}]}", "data.transforms[0].size is "
                        "missing; data.transforms[0].siz is not known, did you mean size?"),
    "other transform's key": ("data: {transforms: [{name: rot90, probability: 1.0}]}",
                              "data.transforms[0].probability is not known; probability belongs "
                              "to the transform horizontal_flip or"),
    "transform's value": ("data: {transforms: [{name: pad, size: 0}]}",
                          "data.transforms[0].size should be greater than or equal to 1"),
    "scales": ("data: {transforms: [{name: random_scale, minimum: 3.0}]}",
               "data.transforms[0]: minimum 3.0 is more than maximum 2.0"),
    "no normalize": ("data: {transforms: [{name: rot90}]}", "data: transforms must have normalize"),
    "jitter last": ("data: {transforms: [{name: normalize}, {name: color_jitter}]}",
                    "color_jitter changes colours on the scale 0 to 255; normalize later"),
    "normalize twice": ("data: {transforms: [{name: normalize}, {name: normalize}]}",
                        "transforms must have normalize once"),
    "sizes": ("data: {transforms: [{name: random_scale}, {name: normalize}]}",
              "random_scale needs a random_crop or pad after it"),
    "pad too small": ("data: {transforms: [{name: pad, size: 512}, {name: normalize}]}",
                      "pad to 512 gets samples of up to 896 pixels; use random_crop before it"),
    "pad after scale": ("data: {transforms: [{name: random_scale}, {name: pad, size: 896}, "
                        "{name: normalize}]}", "pad to 896 gets samples of up to 1792 pixels"),
    "divisible": ("data: {patch_size: 100, stride: 50}", "samples have 100 pixels, which 32 does "
                  "not divide; use 96 or 128"),
    "small": ("data: {patch_size: 20, stride: 5}", "use 32$"),
    "gaps": ("data: {stride: 1000}", "data: stride 1000 leaves gaps between patches"),
    "gaps in evaluation": ("eval: {stride: 1000}", "eval: stride 1000 leaves gaps between windows"),
    "palette of isaid": ("data: {image_suffix: .tif}", "kind isaid has image_suffix built in"),
    "classes of isaid": ("data: {num_classes: 15}", "num_classes is 15, but iSAID has 16"),
    "folder": ("data: {kind: folder}", "kind folder needs train or val, each with an image_dir"),
    "image_dir": ("data: {kind: folder, val: {mask_dir: m}}", "data.val.image_dir is missing"),
    "palette": ("data: {kind: folder, val: {image_dir: i}, palette: [[0, 0, 0], [1, 1, 1]]}",
                "palette has 2 entries for 16 classes"),
    "colour twice": ("data: {kind: folder, val: {image_dir: i}, num_classes: 2, "
                     "palette: [[1, 1, 1], [1, 1, 1]]}", "[1, 1, 1] for class 0 and for class 1"),
    "colour": ("data: {palette: [[1, 2], [3, 4, 256]]}", "data.palette[0] list should have at "
               "least 3 items, not 2; data.palette[1][2] should be less than or equal to 255"),
    "ignored class": ("data: {kind: folder, val: {image_dir: a}, ignore_index: 3}",
                      "ignore_index 3 is a class"),
    "empty path": ("train: {save_dir: ''}", "train.save_dir: '' is no path"),
    "zero in a path": (r'train: {save_dir: "a\0b"}', "is no path"),
    "no such home": ("train: {save_dir: ~nobody-here/x}", "names a home folder that does not ex"),
    "no YAML": ("train: [1", "a.yml line 1: expected ',' or ']'"),
    "twice": ("seed: 1\nseed: 2", "a.yml line 2: the key seed is given twice"),
    "list as key": ("[1]: 2", "a.yml line 1: a list or section can't be a key"),
    "list of keys": ("- seed", "a.yml holds a list; give keys with values"),
    "tag": ("seed: !!python/object/apply:os.getpid []", "is a tag; only plain values are read"),
    "binary tag": ("seed: !!binary x", "is a tag; only plain values are read"),
    "deep": ("[" * 5000, "lists or sections are nested too deeply"),
    "control character": ("\x01", "special characters are not allowed"),
    "base": ("_base_: 3", "_base_ is 3; give a file or a list of files"),
    "missing base": ("_base_: b.yml", "b.yml, which .*a.yml names as _base_, does not exist"),
    "base is a folder": ("_base_: .", "which .*a.yml names as _base_, is no file"),
    "circle": ("_base_: a.yml", "_base_ includes itself: .*a.yml -> .*a.yml$"),
}  # fmt: skip


def matches(message: str) -> str:
    """A pattern for a text in which .* and a final $ are meant and all else is not."""
    return re.escape(message).replace(r"\.\*", ".*").replace(r"\$", "$")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_named(mistake, write):
    content, message = MISTAKES[mistake]
    with pytest.raises(ConfigError, match=matches(message)) as caught:
        load_config(write(content))
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_all_mistakes_of_a_file_are_in_one_message(write):
    with pytest.raises(ConfigError, match=r"a\.yml: seed .*; train\.iters .*; zzz is"):
        load_config(write("train: {iters: 0}\nzzz: 1\nseed: -1"))


def test_mistake_is_put_down_to_the_file_that_makes_it(write):
    write("train: {iters: 0}", "base.yml")
    path = write("_base_: base.yml\ntrain: {batch_size: 0}")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    first, second = sorted(str(caught.value).split("; "), key=lambda part: "iters" in part)
    assert first.startswith(f"{path}: train.batch_size should")
    assert second.startswith(f"{path.parent / 'base.yml'}: train.iters should")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("train.iters=0", "--opts train.iters=0: train.iters should be greater"),
        ("train.itres=3", "--opts train.itres=3: train.itres is not known, did you mean iters?"),
        ("train.iters", "--opts train.iters: give key=value, such as train.batch_size=4"),
        ("=3", "--opts =3: give key=value"),
        ("train..iters=3", "--opts train..iters=3: give key=value"),
        ("train.iters=[", "--opts train.iters=[ line 1: "),
        ("train.iters.x=3", "--opts train.iters.x=3: train.iters should be a valid integer"),
        ("data.stride=999", "a.yml with --opts data.stride=999: data: stride 999 leaves gaps"),
        ("data.val={mask_dir: m}", "--opts data.val={mask_dir: m}: data.val.image_dir is missing"),
        ("optimizer.power=-1", "--opts optimizer.power=-1: optimizer.power should be greater"),
    ],
)
def test_mistake_of_an_option_names_the_option(option, message, write):
    with pytest.raises(ConfigError, match=matches(message)):
        load_config(write("seed: 1"), [option])


@pytest.mark.parametrize(
    ("text", "option", "message"),
    [
        ("train:\n#  iters: 5", None, "a.yml: train should be keys with values: .* (it is null)"),
        ("seed: 1", "train=3", "--opts train=3: train should be keys with values: .* (it is 3)"),
        ("data: {sample: 3}", None, "a.yml: data.sample should be keys with values: .* (it is 3)"),
        ("train: {amp: }", None, "a.yml: train.amp should be keys with values: .* (it is null)"),
    ],
)
def test_section_without_keys_is_not_hidden_by_flags(text, option, message, write):
    """The flags' keys made it a section again, without all that it had inherited."""
    changes = {"train.iters": 7, "train.amp.level": "O1", "data.sample.seed": 4}
    with pytest.raises(ConfigError, match=matches(message)):
        load_config(write(text), [option] if option else [], changes)


def test_sample_that_was_none_may_be_some_again(write):
    config = load_config(write("data: {sample: null}"), ["data.sample.size=128"])
    assert config.data.sample.size == 128


def test_mistake_of_a_flag_is_put_down_to_the_command_line(write):
    changes = {"train.batch_size": 0, "optimizer.power": math.nan}
    with pytest.raises(ConfigError, match=r"^the command line: optimizer\.power should be a fin"):
        load_config(write("seed: 1"), changes=changes)


def test_missing_file_and_folder_are_told_apart(tmp_path):
    with pytest.raises(ConfigError, match=r"the configuration .*none\.yml does not exist"):
        load_config(tmp_path / "none.yml")
    with pytest.raises(ConfigError, match="is no file"):
        load_config(tmp_path)


def test_file_that_is_no_text(tmp_path):
    (tmp_path / "a.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"a\.yml is no UTF-8 text"):
        load_config(tmp_path / "a.yml")


def test_file_that_can_not_be_read(write, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigError, match=r"a\.yml can't be read: Permission denied"):
        load_config(write("seed: 1"))


def test_alias_bomb_is_refused_before_it_grows(write):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match=r"line 2: \*a0 is an alias; write the value out"):
        load_config(write("\n".join(lines)))


def test_plain_values_that_are_no_configuration_are_refused():
    with pytest.raises(ConfigError, match="state holds a list; give keys with values"):
        make_config([1], "state")


@given(text=st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_configuration_or_a_clear_error(text, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.yml"
    try:
        path.write_text(text, encoding="utf-8")
    except UnicodeEncodeError:
        return
    message = str(path)
    try:
        load_config(path)
    except ConfigError as error:
        message = str(error)
    assert str(path) in message


def test_layer_tells_an_absent_value_from_null():
    layer = Layer("here", {"a": {"b": None}, "c": [1]})
    assert layer.get(("a", "b")) is None
    assert layer.get(("a", "x")) is ABSENT
    assert layer.get(("c", 0)) == [1]
