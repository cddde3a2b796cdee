"""Data and finished runs that the tests of training share."""

from __future__ import annotations

import pytest

from factseg_paddle.data.synthetic.scenes import make_sample_dataset
from factseg_paddle.engine.training.start import train
from tests.factseg_paddle.engine.training.runs import (
    FACTSEG,
    config,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "sample"
    make_sample_dataset(folder, images=4, size=128, seed=0)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    save_dir = tmp_path_factory.mktemp("run") / "uninterrupted"
    assert train(config(data, save_dir)) == 0
    return save_dir


@pytest.fixture(scope="module")
def uninterrupted_factseg(data, tmp_path_factory):
    save_dir = tmp_path_factory.mktemp("run") / "uninterrupted_factseg"
    assert train(config(data, save_dir, FACTSEG)) == 0
    return save_dir
