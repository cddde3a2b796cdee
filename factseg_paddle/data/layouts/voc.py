"""PASCAL VOC 2012 and its augmentation by SBD, as their archives unpack into one folder.

    VOCdevkit/VOC2012/JPEGImages/NAME.jpg  SegmentationClass/NAME.png  ImageSets/Segmentation/*.txt
    benchmark_RELEASE/dataset/img/NAME.jpg  cls/NAME.mat  train.txt  val.txt

Of the whole data `train` has 1464 images, `val` 1449 and `trainaug` 10582: SBD's two lists without
VOC's train and val, with SBD's masks, and VOC's train with its own, which alone mark void pixels.
(SBD's training list as it is would hold images of VOC's val.)
"""

from __future__ import annotations

from pathlib import Path

from factseg_paddle.config.data_section import Data, Voc
from factseg_paddle.data.layouts.pair_files import DataError, PairFiles, read_names


def find_voc(data: Data, split: str, root: Path) -> list[PairFiles]:
    """Find the pairs of a split, sorted by name; neither file need exist.

    Args:
        data: the configuration, of kind "voc", which names VOC's lists.
        split: "train" or "val".
        root: the folder that those of `data.voc` are relative to.

    Raises:
        DataError: a list is absent, empty or not text, or names an image twice.
    """
    settings = data.voc
    wanted = getattr(settings, split)
    if wanted != "trainaug":
        return _of_voc(root, settings, _voc_names(root, settings, wanted))
    train, val = (_voc_names(root, settings, name) for name in ("train", "val"))
    augmenting = _sbd_names(root, settings) - train - val
    folder = root / settings.sbd_dir
    pairs = [
        PairFiles(name, folder / "img" / f"{name}.jpg", folder / "cls" / f"{name}.mat")
        for name in augmenting
    ]
    return sorted(pairs + _of_voc(root, settings, train), key=lambda pair: pair.name)


def _of_voc(root: Path, settings: Voc, names: set[str]) -> list[PairFiles]:
    folder = root / settings.voc_dir
    return [
        PairFiles(
            name,
            folder / "JPEGImages" / f"{name}.jpg",
            folder / "SegmentationClass" / f"{name}.png",
        )
        for name in sorted(names)
    ]


def _voc_names(root: Path, settings: Voc, name: str) -> set[str]:
    path = root / settings.voc_dir / "ImageSets" / "Segmentation" / f"{name}.txt"
    if not path.is_file():
        raise DataError(
            f"PASCAL VOC 2012 is not complete at {root}: the list {path} does not exist\n"
            "Get VOCtrainval_11-May-2012.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2012 "
            "and unpack it there, or give the folder that has it with --dataset_root DIR\n"
            "Where JPEGImages does not lie in VOCdevkit/VOC2012, set data.voc.voc_dir"
        )
    return set(read_names(path))


def _sbd_names(root: Path, settings: Voc) -> set[str]:
    names: set[str] = set()
    for file in ("train.txt", "val.txt"):
        path = root / settings.sbd_dir / file
        if not path.is_file():
            raise DataError(
                f"trainaug needs SBD, which is not complete at {root}: the list {path} does not "
                "exist\nGet benchmark.tgz from "
                "http://home.bharathh.info/pubs/codes/SBD/download.html and unpack it there, or "
                "say with data.voc.sbd_dir where it lies\n"
                "To train on VOC's own 1464 images: --opts data.voc.train=train"
            )
        names.update(read_names(path))
    return names
