import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from factseg_paddle.data.images.files import read_image, read_mask, read_pair, write_png
from factseg_paddle.data.images.palettes import ISAID_PALETTE, index_to_color

RNG_SEED = 5
LABELS = np.arange(16, dtype=np.uint8).repeat(20).reshape(16, 20)


def rgb(height=24, width=30):
    return np.random.default_rng(RNG_SEED).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def save_palette(path, indices, entries, **options):
    image = Image.fromarray(indices).convert("L")
    palette = Image.frombytes("P", image.size, image.tobytes())
    palette.putpalette(np.asarray(entries, np.uint8).ravel().tolist())
    palette.save(path, **options)
    return path


def test_image_is_rgb_not_bgr(tmp_path):
    pixels = rgb()
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", pixels)), pixels)


def test_grey_image_is_repeated_in_three_channels(tmp_path):
    grey = rgb()[..., 0]
    image = read_image(save(tmp_path / "grey.png", grey))
    np.testing.assert_array_equal(image, np.stack([grey] * 3, axis=2))


def test_rgba_image_loses_its_alpha_only(tmp_path):
    pixels = np.dstack([rgb(), rgb()[..., 0]])
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", pixels)), pixels[..., :3])


def test_palette_image_is_expanded(tmp_path):
    entries = rgb(1, 256)[0]
    indices = np.arange(240, dtype=np.uint8).reshape(12, 20)
    image = read_image(save_palette(tmp_path / "p.png", indices, entries))
    np.testing.assert_array_equal(image, entries[indices])


def test_exif_does_not_turn_an_image_away_from_its_mask(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate 90 degrees to view"
    path = save(tmp_path / "turned.jpg", rgb(16, 32), exif=exif)
    assert read_image(path).shape == (16, 32, 3)


def test_path_with_letters_beyond_ascii_is_read(tmp_path):
    pixels = rgb()
    np.testing.assert_array_equal(read_image(save(tmp_path / "Übung 图.png", pixels)), pixels)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.97])
def test_truncated_png_is_an_error_that_names_it(tmp_path, share, capfd):
    path = save(tmp_path / "cut.png", rgb())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(
        ValueError,
        match=r"image .*cut\.png (is truncated|cannot be decoded)",
    ):
        read_image(path)
    with pytest.raises(
        ValueError,
        match=r"mask .*cut\.png (is truncated|cannot be decoded)",
    ):
        read_mask(path)
    assert capfd.readouterr().err == ""


def test_png_without_its_end_chunk_is_truncated(tmp_path):
    path = save(tmp_path / "end.png", rgb())
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(
        ValueError, match=r"end\.png is truncated or damaged: the PNG ends too early"
    ):
        read_image(path)


def test_png_with_a_flipped_bit_is_damaged(tmp_path):
    path = save(tmp_path / "bit.png", rgb())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"bit\.png is truncated or damaged: .*checksum in b'IDAT'"
    ):
        read_image(path)


def test_truncated_jpeg_is_not_filled_with_grey(tmp_path):
    path = save(tmp_path / "cut.jpg", rgb(64, 64))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    # what OpenCV would have given
    assert cv2.imread(str(path)).shape == (64, 64, 3)
    with pytest.raises(ValueError, match=r"cut\.jpg is truncated: its end marker is missing"):
        read_image(path)


def test_text_file_cannot_be_decoded(tmp_path):
    path = tmp_path / "text.png"
    path.write_text("not an image")
    with pytest.raises(ValueError, match=r"image .*text\.png cannot be decoded"):
        read_image(path)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"image .*none\.png does not exist"):
        read_image(tmp_path / "none.png")
    with pytest.raises(FileNotFoundError, match=r"mask .* is a folder"):
        read_mask(tmp_path)


def test_sixteen_bits_are_not_scaled_down_silently(tmp_path):
    path = save(tmp_path / "deep.png", np.full((8, 8), 3, np.uint16))
    with pytest.raises(ValueError, match=r"deep\.png has 16 bits a channel; convert it to 8"):
        read_image(path)
    with pytest.raises(ValueError, match="has 16 bits a channel"):
        read_mask(path)


def test_color_mask_becomes_indices(tmp_path):
    path = save(tmp_path / "mask.png", index_to_color(LABELS))
    np.testing.assert_array_equal(read_mask(path), LABELS)


def test_rgba_color_mask_becomes_indices(tmp_path):
    opaque = np.dstack([index_to_color(LABELS), np.full(LABELS.shape, 255, np.uint8)])
    np.testing.assert_array_equal(read_mask(save(tmp_path / "mask.png", opaque)), LABELS)


def test_index_mask_keeps_255(tmp_path):
    labels = LABELS.copy()
    labels[2:5] = 255
    np.testing.assert_array_equal(read_mask(save(tmp_path / "mask.png", labels)), labels)
    grey_alpha = np.dstack([labels, np.full_like(labels, 255)])
    np.testing.assert_array_equal(read_mask(save(tmp_path / "la.png", grey_alpha)), labels)


def test_index_mask_in_a_tiff_is_read(tmp_path):
    np.testing.assert_array_equal(read_mask(save(tmp_path / "mask.tif", LABELS)), LABELS)


def test_bmp_masks_hold_indices_or_colours(tmp_path):
    colors = index_to_color(LABELS)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "grey.bmp", LABELS)), LABELS)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "rgb.bmp", colors)), LABELS)
    path = save_palette(tmp_path / "palette.bmp", LABELS, ISAID_PALETTE)
    np.testing.assert_array_equal(read_mask(path), LABELS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"mask .*palette\.bmp cannot be decoded"):
        read_mask(path)


def test_index_out_of_range_is_named_with_its_pixels(tmp_path):
    labels = LABELS.copy()
    labels[0, :3] = 16
    with pytest.raises(
        ValueError, match=r"mask\.png holds indices .*below 16 nor 255: 16 in 3 pixels"
    ):
        read_mask(save(tmp_path / "mask.png", labels))


def test_unknown_color_names_file_and_color(tmp_path):
    colors = index_to_color(LABELS)
    colors[0, 0] = (1, 2, 3)
    with pytest.raises(ValueError, match=r"mask\.png does not fit the palette: .*\(1, 2, 3\) in 1"):
        read_mask(save(tmp_path / "mask.png", colors))


def test_jpeg_mask_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is a JPEG, which changes colours"):
        read_mask(save(tmp_path / "mask.jpg", index_to_color(LABELS)))


def test_palette_mask_with_foreign_colors_holds_indices(tmp_path):
    entries = rgb(1, 256)[0]
    entries[0] = 0
    labels = LABELS.copy()
    labels[3] = 255
    np.testing.assert_array_equal(
        read_mask(save_palette(tmp_path / "p.png", labels, entries)), labels
    )


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palette_mask_of_few_bits_holds_indices(tmp_path, bits):
    labels = LABELS % (1 << bits)
    entries = np.zeros((1 << bits, 3), np.uint8)
    entries[1:] = rgb(1, 15)[0, : (1 << bits) - 1]
    path = save_palette(tmp_path / "p.png", labels, entries, bits=bits)
    assert path.read_bytes()[24] == bits
    np.testing.assert_array_equal(read_mask(path), labels)


def test_color_mask_saved_with_a_palette_goes_by_its_colors(tmp_path):
    shuffled = np.random.default_rng(0).permutation(16).astype(np.uint8)
    stored = np.argsort(shuffled).astype(np.uint8)[LABELS]
    path = save_palette(tmp_path / "p.png", stored, ISAID_PALETTE[shuffled])
    np.testing.assert_array_equal(read_mask(path), LABELS)


def test_palette_mask_that_means_two_things_is_refused(tmp_path):
    entries = np.vstack([[(0, 0, 63)], [(9, 9, 9)]])  # entry 0 has the colour of class 1
    with pytest.raises(ValueError, match=r"entry 0 in the colour \(0, 0, 63\) of class 1"):
        read_mask(save_palette(tmp_path / "p.png", LABELS % 2, entries))


def test_palette_mask_beyond_its_palette_is_refused(tmp_path):
    path = save_palette(tmp_path / "p.png", LABELS, np.zeros((16, 3)), bits=8)
    data = path.read_bytes()
    start = data.index(b"PLTE") - 4
    length = int.from_bytes(data[start : start + 4], "big")
    short = b"PLTE" + bytes([200, 200, 200] * 4)
    chunk = (12).to_bytes(4, "big") + short + zlib.crc32(short).to_bytes(4, "big")
    path.write_bytes(data[:start] + chunk + data[start + 12 + length :])
    with pytest.raises(ValueError, match="uses entry 15 of a palette of 4"):
        read_mask(path)


def test_pair_of_two_sizes_names_both(tmp_path):
    image = save(tmp_path / "image.png", rgb(16, 21))
    mask = save(tmp_path / "mask.png", LABELS)
    with pytest.raises(ValueError, match=r"image\.png is 16 x 21 .*mask\.png is 16 x 20"):
        read_pair(image, mask)
    pixels, labels = read_pair(save(tmp_path / "fits.png", rgb(16, 20)), mask)
    assert pixels.shape[:2] == labels.shape


@pytest.mark.parametrize("pixels", [rgb(), rgb()[..., 0]], ids=["color", "indices"])
def test_written_png_reads_back_bit_equal_in_pillow(tmp_path, pixels):
    write_png(tmp_path / "out.png", pixels)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out.png")), pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_write_png_guards(tmp_path):
    for pixels in (
        rgb().astype(np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4), np.uint8),
    ):
        with pytest.raises(ValueError, match=r"out\.png are \[H, W, 3\] or \[H, W\] uint8"):
            write_png(tmp_path / "out.png", pixels)
    assert not list(tmp_path.iterdir())


def test_tiff_with_alpha_is_refused(tmp_path):
    """OpenCV multiplies its colours by alpha: they would be wrong and nobody told."""
    rng = np.random.default_rng(0)
    path = tmp_path / "a.tif"
    cv2.imwrite(str(path), rng.integers(0, 256, (8, 9, 4)).astype(np.uint8))
    with pytest.raises(ValueError, match=r"image .*a\.tif is a TIFF with an alpha channel; save"):
        read_image(path)
    cv2.imwrite(str(path), rng.integers(0, 256, (8, 9, 3)).astype(np.uint8))
    assert read_image(path).shape == (8, 9, 3)
