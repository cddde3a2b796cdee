"""Images read by windows: every format gives what `read_image` gives, or says what is wrong."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image

from factseg_paddle.data.images.files import read_image
from factseg_paddle.data.patches import Window
from factseg_paddle.inference.image_source import SUFFIXES, open_image

PIXELS = np.random.RandomState(0).randint(0, 256, (70, 90, 4)).astype(np.uint8)


def write(path, pixels, **options):
    """By Pillow, or by GDAL where it is told how."""
    if not options:
        Image.fromarray(pixels).save(path)
        return path
    bands = pixels.transpose(2, 0, 1)
    profile = {"driver": "GTiff", "dtype": pixels.dtype, "count": len(bands), **options}
    height, width = pixels.shape[:2]
    with rasterio.open(path, "w", height=height, width=width, **profile) as file:
        file.write(bands)
    return path


def whole(path):
    with open_image(path) as source:
        return source.read(Window(0, 0, source.height, source.width))


CASES = {
    "rgb.png": (PIXELS[..., :3], {}),
    "rgba.png": (PIXELS, {}),
    "grey.png": (PIXELS[..., 0], {}),
    "rgb.jpg": (PIXELS[..., :3], {}),
    "rgb.bmp": (PIXELS[..., :3], {}),
    "rgb.tif": (PIXELS[..., :3], {}),
    "rgba.tif": (PIXELS, {}),
    "grey.tif": (PIXELS[..., 0], {}),
    "tiled.tif": (PIXELS[..., :3], {"tiled": True, "blockxsize": 32, "blockysize": 16}),
    "lzw.tiff": (PIXELS[..., :3], {"compress": "lzw", "photometric": "rgb"}),
    "bigtiff.tif": (PIXELS, {"BIGTIFF": "YES", "photometric": "rgb", "alpha": "yes"}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("error::rasterio.errors.NotGeoreferencedWarning")
def test_windows_equal_the_decoded_image(tmp_path, name):
    pixels, options = CASES[name]
    path = write_quietly(tmp_path / name, pixels, options)
    # not of a TIFF with alpha, whose colours OpenCV multiplies by it
    expected = PIXELS[..., :3] if pixels is PIXELS else read_image(path)
    with open_image(path) as source:
        assert (source.height, source.width) == (70, 90)
        for window in (Window(0, 0, 70, 90), Window(3, 7, 20, 30), Window(69, 89, 1, 1)):
            found = source.read(window)
            assert found.dtype == np.uint8
            rows = slice(window.top, window.top + window.height)
            columns = slice(window.left, window.left + window.width)
            np.testing.assert_array_equal(found, expected[rows, columns])
    assert path.suffix in SUFFIXES
    if not name.endswith("jpg") and pixels.ndim == 3:
        np.testing.assert_array_equal(expected, pixels[..., :3])


def write_quietly(path, pixels, options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return write(path, pixels, **options)


def test_a_palette_tiff_is_expanded(tmp_path):
    picture = Image.fromarray(PIXELS[..., 0] % 4, mode=None).convert("P")
    picture.putpalette([1, 2, 3, 40, 50, 60, 70, 80, 90, 255, 0, 9])
    picture.save(tmp_path / "p.tif")
    expected = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(whole(tmp_path / "p.tif"), expected)


def test_a_tiff_is_known_by_its_content_not_its_name(tmp_path):
    path = write(tmp_path / "a.tif", PIXELS[..., :3]).rename(tmp_path / "a.png")
    np.testing.assert_array_equal(whole(path), PIXELS[..., :3])


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (PIXELS[..., :3].astype(np.uint16), {"photometric": "rgb"}, "has uint16 values; convert"),
        (PIXELS[..., :1].astype(np.float32), {"compress": "lzw"}, "has float32 values; convert"),
        (np.concatenate([PIXELS, PIXELS], 2), {"compress": "lzw"}, "has 8 channels; convert"),
    ],
)
def test_tiffs_that_are_no_8_bit_rgb_are_refused(tmp_path, pixels, options, message):
    path = write_quietly(tmp_path / "a.tif", pixels, options)
    with pytest.raises(ValueError, match=message) as raised, open_image(path):
        pass
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("keep", [0.3, 0.8])
def test_a_truncated_tiff_names_the_file(tmp_path, keep):
    path = write_quietly(tmp_path / "a.tif", PIXELS[..., :3], {"compress": "lzw"})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ValueError, match=r"a\.tif (cannot be decoded|is damaged or truncated)"):
        whole(path)


def test_a_16_bit_png_and_a_truncated_one_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), PIXELS[..., :3].astype(np.uint16) * 257)
    with pytest.raises(ValueError, match="has 16 bits a channel"):
        whole(tmp_path / "deep.png")
    path = write(tmp_path / "cut.png", PIXELS[..., :3])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="the PNG ends too early"):
        whole(path)


def test_what_is_no_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"), open_image(tmp_path / "a.png"):
        pass
    with pytest.raises(FileNotFoundError, match="is a folder"), open_image(tmp_path):
        pass


def test_tiff_of_four_bits_is_refused(tmp_path):
    """It was predicted from its raw values, nearly black."""
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=8, width=8, count=1, dtype="uint8", nbits=4
    ) as file:
        file.write(np.full((1, 8, 8), 15, np.uint8))
    with (
        pytest.raises(ValueError, match=r"a\.tif has 4 bits a channel"),
        open_image(path),
    ):
        pass
