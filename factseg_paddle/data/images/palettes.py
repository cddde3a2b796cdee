"""Class names and mask colours, and the way between colour masks and class indices.

The colours and their order are the original's, since published checkpoints depend on the indices.
The original swaps the names of indices 2 and 12; here they follow the iSAID devkit, where
(0, 63, 63) is a storage tank.

A colour mask has no colour for pixels to ignore: in iSAID the label 255 arises only when a patch
is padded, after decoding. `index_to_color` therefore refuses 255; labels that hold it are kept as
an index mask (one channel, 0-15 and 255), which `files.read_mask` reads as well.
"""

import numpy as np

ISAID_CLASSES: tuple[str, ...] = (
    "background",
    "ship",
    "roundabout",
    "baseball_diamond",
    "tennis_court",
    "basketball_court",
    "ground_track_field",
    "bridge",
    "large_vehicle",
    "small_vehicle",
    "helicopter",
    "swimming_pool",
    "storage_tank",
    "soccer_ball_field",
    "plane",
    "harbor",
)

ISAID_PALETTE: np.ndarray = np.array(
    [
        (0, 0, 0),
        (0, 0, 63),
        (0, 191, 127),
        (0, 63, 0),
        (0, 63, 127),
        (0, 63, 191),
        (0, 63, 255),
        (0, 127, 63),
        (0, 127, 127),
        (0, 0, 127),
        (0, 0, 191),
        (0, 0, 255),
        (0, 63, 63),
        (0, 127, 191),
        (0, 127, 255),
        (0, 100, 155),
    ],
    dtype=np.uint8,
)
ISAID_PALETTE.flags.writeable = False

# Their colours are `distinct_palette(21)`.
VOC_CLASSES: tuple[str, ...] = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

IGNORE_INDEX = 255

_SHOWN = 8  # colours or values named in one message


def color_to_index(mask: np.ndarray, palette: np.ndarray = ISAID_PALETTE) -> np.ndarray:
    """Translate a colour mask into class indices.

    Every colour is looked up by all its 24 bits, so no two colours share a key (the original's
    R + 2G + 3B maps 237,270 foreign colours to foreground classes).

    Args:
        mask: RGB colours, [H, W, 3] uint8.
        palette: RGB colour of each class, [C, 3] uint8, at most 255 rows, no colour twice.

    Returns:
        Class indices, [H, W] uint8.

    Raises:
        ValueError: the mask or palette is misshapen, or the mask holds colours that the palette
            lacks; these are listed with their pixel counts.
    """
    if mask.ndim != 3 or mask.shape[2] != 3 or mask.dtype != np.uint8:
        raise ValueError(
            f"a colour mask is [H, W, 3] uint8, this one is {list(mask.shape)} {mask.dtype}"
        )
    keys = _color_keys(mask)
    # 16 MiB, but only the few entries of the palette are touched, so they stay in the cache.
    table = np.full(1 << 24, IGNORE_INDEX, dtype=np.uint8)
    table[_palette_keys(palette)] = np.arange(len(palette), dtype=np.uint8)
    labels = table[keys]
    unknown = labels == IGNORE_INDEX
    if unknown.any():
        raise ValueError(_unknown_colors(keys[unknown], mask.shape[0] * mask.shape[1]))
    return labels


def index_to_color(labels: np.ndarray, palette: np.ndarray = ISAID_PALETTE) -> np.ndarray:
    """Translate class indices into a colour mask.

    Args:
        labels: class indices below the palette's length, [H, W] of an integer type.
        palette: RGB colour of each class, [C, 3] uint8.

    Returns:
        RGB colours, [H, W, 3] uint8.

    Raises:
        ValueError: the labels are misshapen, or a label has no colour; 255 has none.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels are [H, W] integers, these are {list(labels.shape)} {labels.dtype}"
        )
    _palette_keys(palette)
    outside = (labels < 0) | (labels >= len(palette))
    if outside.any():
        values = np.unique(labels[outside])[:_SHOWN].tolist()
        raise ValueError(
            f"labels {values} have no colour in a palette of {len(palette)} classes; "
            f"save labels with ignored pixels ({IGNORE_INDEX}) as an index mask"
        )
    return palette[labels]


def distinct_palette(num_classes: int) -> np.ndarray:
    """Return colours for classes that have none, [C, 3] uint8: PASCAL VOC's, class 0 black.

    The bits of the index go to red, green and blue in turn, the lowest to the highest, so no two
    classes share a colour.
    """
    index = np.arange(num_classes)
    palette = np.zeros((num_classes, 3), dtype=np.uint8)
    for bit in range(8):
        palette[:, bit % 3] |= ((index >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return palette


def _color_keys(colors: np.ndarray) -> np.ndarray:
    """Pack [..., 3] uint8 colours into their 24-bit numbers, [...] uint32."""
    keys = colors[..., 0].astype(np.uint32)
    for channel in (1, 2):
        keys <<= 8
        keys |= colors[..., channel]
    return keys


def _palette_keys(palette: np.ndarray) -> np.ndarray:
    if palette.ndim != 2 or palette.shape[1] != 3 or palette.dtype != np.uint8:
        raise ValueError(
            f"a palette is [C, 3] uint8, this one is {list(palette.shape)} {palette.dtype}"
        )
    if not 1 <= len(palette) <= IGNORE_INDEX:
        raise ValueError(f"a palette has 1 to {IGNORE_INDEX} colours, this one has {len(palette)}")
    keys = _color_keys(palette)
    if len(np.unique(keys)) != len(keys):
        raise ValueError("the palette gives one colour to two classes")
    return keys


def _unknown_colors(keys: np.ndarray, total: int) -> str:
    colors, counts = np.unique(keys, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    named = ", ".join(
        f"({key >> 16}, {key >> 8 & 255}, {key & 255}) in {count} pixels"
        for key, count in zip(
            colors[order][:_SHOWN].tolist(), counts[order][:_SHOWN].tolist(), strict=True
        )
    )
    more = f" and {len(colors) - _SHOWN} more colours" if len(colors) > _SHOWN else ""
    return f"{len(keys)} of {total} pixels have colours that are not in the palette: {named}{more}"
