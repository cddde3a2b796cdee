"""The manifest beside a converted file: complete, checked, and of no use once anything differs."""

import json
import pickle

import numpy as np
import pytest
import torch

from alignment.weights.checkpoint_files import Envelope
from factseg_convert.manifest import (
    Manifest,
    TensorRecord,
    manifest_path,
    read_manifest,
    write_manifest,
)
from factseg_paddle.files import sha256_of_array, sha256_of_file
from factseg_paddle.io import load_pdparams, save_pdparams
from scripts import convert_paddle2torch, convert_torch2paddle
from tests.factseg_convert.files import (
    COUNTER,
    light_state,
    load_torch,
    random_state,
    there_and_back,
)


@pytest.fixture(scope="module")
def resnet18():
    return random_state("resnet", "resnet18", 7)


def test_the_manifest_accounts_for_every_tensor_of_both_files(tmp_path, resnet18):
    state = {f"module.{name}": tensor for name, tensor in resnet18.items()}
    there_and_back(tmp_path, {"model": state})
    manifest = json.loads((tmp_path / "a.pdparams.manifest.json").read_text())
    assert manifest["source"] == {"file": "a.pth", "sha256": sha256_of_file(tmp_path / "a.pth")}
    assert manifest["output"]["sha256"] == sha256_of_file(tmp_path / "a.pdparams")
    written = load_pdparams(tmp_path / "a.pdparams")
    records = manifest["tensors"]
    assert [record["torch"] for record in records] == list(state)
    assert [record["paddle"] for record in records if record["paddle"]] == list(written)
    for record in records:
        if record["paddle"]:
            array = written[record["paddle"]]
        else:
            array = state[record["torch"]].numpy()
            assert record["value"] == array
        assert record["shape"] == list(array.shape)
        assert record["dtype"] == str(array.dtype)
        assert record["sha256"] == sha256_of_array(array)


def test_counters_are_0_and_it_is_said_when_the_paddle_file_has_changed(tmp_path, capsys, resnet18):
    there_and_back(tmp_path, {"model": resnet18})
    trained = load_pdparams(tmp_path / "a.pdparams")
    trained["fc.bias"] += 1
    save_pdparams(tmp_path / "a.pdparams", trained)
    capsys.readouterr()
    argv = ["--input", str(tmp_path / "a.pdparams"), "--output", str(tmp_path / "b.pth")]
    assert convert_paddle2torch.main(argv) == 0
    out = capsys.readouterr().out
    assert "num_batches_tracked is 0 in all 20 layers, since a.pdparams.manifest.json" in out
    assert "describes other contents" in out
    back = load_torch(tmp_path / "b.pth")
    assert set(back) == set(resnet18)
    for name, tensor in back.items():
        if name.endswith(COUNTER):
            assert tensor.dtype == torch.int64
            assert tensor == 0
        elif name != "fc.bias":
            assert torch.equal(tensor, resnet18[name])


def test_a_manifest_of_other_tensors_counts_as_none(tmp_path, capsys):
    torch.save(light_state("resnet"), tmp_path / "a.pth")
    assert convert_torch2paddle.main(["--input", str(tmp_path / "a.pth")]) == 0
    path = tmp_path / "a.pdparams.manifest.json"
    path.write_text(path.read_text().replace('"torch": "fc.bias"', '"torch": "fc.bais"'))
    argv = ["--input", str(tmp_path / "a.pdparams"), "--output", str(tmp_path / "b.pth")]
    assert convert_paddle2torch.main(argv) == 0
    assert f"is 0 in all 20 layers, since {path.name} names other" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("find", "put"),
    [
        ('"torch": "bn.count"', ""),
        ("factseg_paddle.weights/1", "other"),
        ('"value": 3', '"value": "x"'),
        ('"value": 3', f'"value": {2**70}'),
        ('"tensors"', '"tensor"'),
        ('"shape": []', '"shape": 3'),
    ],
)
def test_a_damaged_manifest_is_said_and_not_used(tmp_path, find, put):
    record = TensorRecord("bn.count", None, (), "int64", sha256_of_array(np.int64(3)), 3)
    written = Manifest("a.pth", "1" * 64, "a.pdparams", "2" * 64, "resnet18", Envelope(), (record,))
    path = manifest_path(tmp_path / "a.pdparams")
    write_manifest(path, written)
    assert read_manifest(tmp_path / "a.pdparams", "2" * 64) == written
    assert "describes other contents" in read_manifest(tmp_path / "a.pdparams", "3" * 64)
    text = path.read_text()
    assert find in text
    path.write_text(text.replace(find, put))
    assert "a.pdparams.manifest.json is damaged" in read_manifest(tmp_path / "a.pdparams", "2" * 64)


# Regressions


@pytest.fixture
def converted(tmp_path, capsys):
    """A converted small file, and a function that edits its manifest and converts it back."""
    state = {f"module.{name}": tensor for name, tensor in light_state("resnet").items()}
    torch.save({"model": state, "global_step": 7}, tmp_path / "a.pth")
    assert convert_torch2paddle.main(["--input", str(tmp_path / "a.pth")]) == 0
    path = tmp_path / "a.pdparams.manifest.json"

    def back(edit):
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))
        capsys.readouterr()
        argv = ["--input", str(tmp_path / "a.pdparams"), "--output", str(tmp_path / "b.pth")]
        assert convert_paddle2torch.main(argv) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out, load_torch(tmp_path / "b.pth")

    return back


def put(value, *keys):
    def edit(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return edit


def is_counter(record):
    return record["paddle"] is None


def assert_said_and_not_used(out, back, why):
    assert f"num_batches_tracked is 0 in all 20 layers, since a.pdparams.manifest.json {why}" in out
    assert set(back) == set(light_state("resnet"))
    assert all(tensor == 0 for name, tensor in back.items() if name.endswith(COUNTER))


@pytest.mark.parametrize(
    "edit",
    [
        put(3, "form", "prefix"),
        put("../", "form", "prefix"),
        put(5, "form", "wrapper"),
        put([], "form", "wrapper"),
        put("net", "form", "wrapper"),
        put(None, "form", "wrapper"),
        put({"model": 3}, "form", "others"),
        put({"step": [3]}, "form", "others"),
        put([], "form", "others"),
        put([3], "form", "dropped"),
        put("opt", "form", "dropped"),
        put(None, "tensors", 0, "torch"),
        put(3, "tensors", 0, "paddle"),
        put(3, "tensors", 0, "value"),
        put([True], "tensors", 0, "shape"),
        put("abc", "tensors", 0, "shape"),
        put(3, "tensors", 0, "sha256"),
        put(None, "tensors", 0, "dtype"),
        put({}, "tensors"),
        put(7, "source", "file"),
        put(None, "source"),
    ],
)
def test_wrong_values_in_a_manifest_gave_a_traceback_or_blamed_a_temporary_file(converted, edit):
    out, back = converted(edit)
    if "names other tensors" not in out:  # an empty list of tensors is sound but of another file
        assert_said_and_not_used(out, back, "is damaged (")


def test_a_deeply_nested_manifest_gave_a_traceback(tmp_path):
    manifest_path(tmp_path / "a").write_text("[" * 100_000)
    assert "a.manifest.json is damaged" in read_manifest(tmp_path / "a", "")


@pytest.mark.parametrize("value", [True, 4, None, 3.0, "3", -(2**63) - 1])
def test_a_count_came_back_without_its_hash_being_checked(converted, value):
    def edit(content):
        next(filter(is_counter, content["tensors"]))["value"] = value

    assert_said_and_not_used(*converted(edit), "is damaged (the count")


def test_a_lost_count_became_0_though_the_note_said_it_was_restored(converted):
    def edit(content):
        del next(filter(is_counter, content["tensors"]))["value"]

    assert_said_and_not_used(*converted(edit), "is damaged (the count None of module.bn1")


def test_a_counter_with_a_paddle_name_became_0_though_the_note_said_it_was_restored(converted):
    def edit(content):
        record = next(filter(is_counter, content["tensors"]))
        del record["value"]
        record["paddle"] = "bn1.num_batches_tracked"

    assert_said_and_not_used(*converted(edit), "names other tensors")


def test_a_manifest_with_two_prefixes_silently_changed_names(converted):
    assert_said_and_not_used(*converted(put("", "form", "prefix")), "names other tensors")


def test_an_untouched_manifest_restores_everything(converted):
    out, back = converted(put(7, "form", "others", "global_step"))
    assert "num_batches_tracked and the form are those of a.pth" in out
    assert list(back) == ["model", "global_step"]
    assert back["model"]["module.bn1.num_batches_tracked"] == 3


def test_values_that_json_cannot_hold_gave_a_traceback(tmp_path, capsys):
    torch.save(light_state("resnet"), tmp_path / "a.pth")
    assert convert_torch2paddle.main(["--input", str(tmp_path / "a.pth")]) == 0
    state = load_pdparams(tmp_path / "a.pdparams")
    kept = {"text": "\ud800", "e\nf": 1}
    (tmp_path / "b.pdparams").write_bytes(pickle.dumps({"model": state, "big": 10**5000, **kept}))
    capsys.readouterr()
    assert convert_paddle2torch.main(["--input", str(tmp_path / "b.pdparams")]) == 0
    out = capsys.readouterr().out
    assert r"text, 'e\nf', beside the weights, is kept in the manifest" in out
    assert "big, beside the weights, is not converted" in out
    manifest = json.loads((tmp_path / "b.pth.manifest.json").read_text())
    assert manifest["form"]["others"] == kept
