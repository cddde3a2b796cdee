"""A small PASCAL VOC 2012 with SBD, as their archives unpack."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from factseg_paddle.config.data_section import Data
from factseg_paddle.data.images.palettes import distinct_palette

LISTS = {
    "train": ["2007_000032", "2008_000008", "2009_000010"],
    "val": ["2007_000033", "2008_000009"],
    "sbd train": ["2008_000001", "2008_000008", "2008_000009", "2010_000007"],
    "sbd val": ["2007_000033", "2009_000003"],
}
"""SBD's lists hold images of VOC's train and of its val too, as the real ones do."""

AUGMENTED = [
    "2007_000032",
    "2008_000001",
    "2008_000008",
    "2009_000003",
    "2009_000010",
    "2010_000007",
]
VOID_COLOUR = (224, 224, 192)


def scene(name: str) -> tuple[np.ndarray, np.ndarray]:
    """An image whose classes can be seen, of a size of its own, and its labels without void."""
    rng = np.random.default_rng(int(name.replace("_", "")))
    height, width = (int(side) for side in rng.integers(40, 70, 2))
    labels = np.kron(rng.integers(0, 21, (9, 9)), np.ones((8, 8), int))[:height, :width]
    image = (60 + labels[..., None] * (3, 5, 7) + rng.integers(0, 20, (height, width, 1))) % 256
    return image.astype(np.uint8), labels.astype(np.uint8)


def with_void(labels: np.ndarray) -> np.ndarray:
    """VOC's own masks have a void border."""
    marked = labels.copy()
    marked[:2] = 255
    return marked


def write_voc(root: Path, voc_dir: str = "VOCdevkit/VOC2012", *, sbd: bool = True) -> Path:
    """Write all pairs of the lists; the root."""
    voc = root / voc_dir
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    for split in ("train", "val"):
        _write_list(voc / "ImageSets/Segmentation" / f"{split}.txt", LISTS[split])
        for name in LISTS[split]:
            image, labels = scene(name)
            _write_image(voc / "JPEGImages" / f"{name}.jpg", image)
            write_palette_png(voc / "SegmentationClass" / f"{name}.png", with_void(labels))
    _write_list(voc / "ImageSets/Segmentation/trainval.txt", LISTS["train"] + LISTS["val"])
    if sbd:
        folder = root / "benchmark_RELEASE/dataset"
        for part in ("img", "cls"):
            (folder / part).mkdir(parents=True)
        for split in ("train", "val"):
            _write_list(folder / f"{split}.txt", LISTS[f"sbd {split}"])
            for name in LISTS[f"sbd {split}"]:
                image, labels = scene(name)
                _write_image(folder / "img" / f"{name}.jpg", image)
                (folder / "cls" / f"{name}.mat").write_bytes(mat_of(labels))
    return root


def write_palette_png(path: Path, indices: np.ndarray) -> None:
    """As VOC's masks: mode P, entry 255 a light yellow."""
    palette = np.zeros((256, 3), np.uint8)
    palette[:255] = distinct_palette(255)
    palette[255] = VOID_COLOUR
    picture = Image.fromarray(indices)
    picture.putpalette(palette.ravel().tolist())
    picture.save(path)


def mat_of(labels: np.ndarray, name: str = "GTcls", *, compressed: bool = True) -> bytes:
    """As SBD's masks."""
    boundaries = np.empty((20, 1), object)
    boundaries[:] = [[np.zeros(labels.shape, bool)]]
    truth = {
        "Boundaries": boundaries,
        "Segmentation": labels,
        "CategoriesPresent": np.unique(labels[labels > 0])[:, None],
    }
    file = io.BytesIO()
    savemat(file, {name: truth}, do_compression=compressed)
    return file.getvalue()


def voc(root: Path, *, voc_section: dict | None = None, **options) -> Data:
    values = {"kind": "voc", "dataset_root": str(root), "num_classes": 21, **options}
    return Data.model_validate(values | ({"voc": voc_section} if voc_section else {}))


def _write_list(path: Path, names: list[str]) -> None:
    path.write_text("".join(f"{name}\n" for name in names))


def _write_image(path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(path, quality=98)
