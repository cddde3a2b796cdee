"""Faults in reading, transforms and metrics."""

from __future__ import annotations

from factseg_paddle import transforms
from factseg_paddle.data.images import files as image_files
from factseg_paddle.data.images import palettes
from factseg_paddle.metrics import ConfusionMatrix
from factseg_proof.faults import data
from factseg_proof.faults.data import in_checks
from factseg_proof.faults.fault import Fault

DATA = [
    Fault(
        "BGR",
        "data",
        "images are read as OpenCV gives them",
        "preprocess",
        "preprocess:decode image",
        in_checks("preprocess", image_files, "read_image", data.bgr),
    ),
    Fault(
        "mean and std of 0-1",
        "data",
        "images of 0-255 are normalised by the mean and std of 0-1",
        "preprocess",
        "preprocess:normalise",
        in_checks("preprocess", transforms, "normalize", data.unit_scale),
    ),
    Fault(
        "pad before normalising",
        "data",
        "evaluation pads with black and not with the mean",
        "preprocess",
        "preprocess:pad after normalising",
        in_checks("preprocess", transforms, "pad_to_divisible", data.padded_black),
    ),
    Fault(
        "rot90 clockwise",
        "data",
        "quarter turns go the other way",
        "preprocess",
        "preprocess:rot90 k=1, image",
        in_checks("preprocess", transforms, "rot90", data.clockwise),
    ),
    Fault(
        "swapped labels",
        "data",
        "two classes have each other's index",
        "preprocess",
        "preprocess:every colour to index",
        in_checks("preprocess", palettes, "color_to_index", data.swapped_classes),
    ),
    Fault(
        "mask not flipped",
        "data",
        "the image is flipped and its mask is not",
        "preprocess",
        "preprocess:horizontal flip, labels",
        in_checks("preprocess", transforms, "horizontal_flip", data.flip_image_alone),
    ),
    Fault(
        "transposed confusion matrix",
        "data",
        "rows are the prediction",
        "metric",
        "metric:confusion matrix, plain",
        in_checks("metric", ConfusionMatrix, "update", data.update_transposed),
    ),
]
