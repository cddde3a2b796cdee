"""What a configuration says of the classes and masks of a prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from factseg_paddle.config.loading import make_config
from factseg_paddle.data.images.files import write_png
from factseg_paddle.data.images.palettes import ISAID_CLASSES, ISAID_PALETTE
from factseg_paddle.engine.prediction import classes_of, masks_of

ROAD = {
    "kind": "folder",
    "val": {"image_dir": "images", "mask_dir": "masks"},
    "num_classes": 2,
    "mask_suffix": "_road.png",
    "ignore_index": 7,
}
COLOURS = {"palette": [[0, 0, 0], [255, 120, 80]], "class_names": ["land", "road"]}


def data_of(values):
    return make_config({"data": values}, "test").data


def test_isaid_has_its_own_names_and_colours():
    classes = classes_of(data_of({}))
    assert classes.names == ISAID_CLASSES
    np.testing.assert_array_equal(classes.palette, ISAID_PALETTE)
    assert classes.ignore_index == 255


def test_a_folder_dataset_has_what_it_says():
    classes = classes_of(data_of(ROAD | COLOURS))
    assert classes.names == ("land", "road")
    assert classes.palette.tolist() == COLOURS["palette"]
    assert classes.palette.dtype == np.uint8
    assert classes.ignore_index == 7


def test_classes_without_names_and_colours_get_some():
    classes = classes_of(data_of(ROAD | {"num_classes": 5}))
    assert len(classes.names) == len(set(classes.names)) == 5
    assert len(np.unique(classes.palette, axis=0)) == 5


def test_masks_are_named_and_read_as_the_data(tmp_path):
    masks = masks_of(data_of(ROAD | COLOURS), tmp_path)
    labels = np.array([[0, 1], [1, 0]], np.uint8)
    write_png(tmp_path / "a_road.png", classes_of(data_of(ROAD | COLOURS)).palette[labels])
    write_png(tmp_path / "b.png", labels)
    for name, file in (("a", "a_road.png"), ("b", "b.png")):
        path = masks.of_image(Path(f"elsewhere/{name}.tif"))
        assert path == tmp_path / file
        np.testing.assert_array_equal(masks.read(path), labels)
    assert masks.of_image(Path("c.png")) is None
    assert masks_of(data_of(ROAD), None) is None
