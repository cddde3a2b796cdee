"""Masks in every form of PNG, against the arrays they were written from and against GDAL."""

import struct
import warnings
import zlib

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from rasterio.errors import NotGeoreferencedWarning

from factseg_paddle.data.images import png
from factseg_paddle.data.images.files import MaskCoding, read_image, read_mask
from factseg_paddle.data.images.palettes import ISAID_PALETTE
from factseg_paddle.data.images.png import read_stored
from tests.factseg_paddle.data.images.png_writer import (
    CHANNELS,
    FORMS,
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGB_ALPHA,
    assemble,
    encode,
    take_apart,
)

EIGHT_BITS = [form for form in FORMS if form[1] <= 8]
SIXTEEN_BITS = [form for form in FORMS if form[1] == 16]
TRUNCATED = "is truncated"
INDICES = MaskCoding(256, None)


def values_of(color_type, bits, height=13, width=11, seed=0):
    shape = (height, width, CHANNELS[color_type])
    drawn = np.random.default_rng(seed).integers(0, 1 << bits, shape)
    return drawn[..., 0] if CHANNELS[color_type] == 1 else drawn


def palette_of(bits, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (1 << bits, 3)).astype(np.uint8)


def gdal(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as source:
            pixels = source.read()
    return np.moveaxis(pixels, 0, 2) if len(pixels) > 1 else pixels[0]


def as_stored(values, color_type):
    return values[..., 0] if color_type == GREY_ALPHA else values


@pytest.mark.parametrize(("color_type", "bits", "interlaced"), EIGHT_BITS)
def test_every_form_gives_the_stored_values(tmp_path, color_type, bits, interlaced):
    values = values_of(color_type, bits)
    palette = palette_of(bits) if color_type == PALETTE else None
    data = encode(
        values, color_type, bits, palette=palette, interlaced=interlaced, filters=range(5)
    )
    (tmp_path / "a.png").write_bytes(data)
    np.testing.assert_array_equal(gdal(tmp_path / "a.png"), values)  # the file is what it should be
    stored = read_stored(data)
    assert stored.values.dtype == np.uint8
    np.testing.assert_array_equal(stored.values, as_stored(values, color_type))
    if palette is None:
        assert stored.palette is None
    else:
        np.testing.assert_array_equal(stored.palette, palette)


@settings(max_examples=150, deadline=None)
@given(
    form=st.sampled_from(EIGHT_BITS),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    filters=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    transparent=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_size_filter_and_transparency(form, height, width, filters, transparent, seed):
    color_type, bits, interlaced = form
    values = values_of(color_type, bits, height, width, seed)
    palette = palette_of(bits, seed) if color_type == PALETTE else None
    extra = [(b"gAMA", struct.pack(">I", 45455))]
    if transparent and color_type in (GREY, RGB, PALETTE):
        extra.append((b"tRNS", {GREY: b"\0\1", RGB: b"\0\1" * 3, PALETTE: b"\0"}[color_type]))
    data = encode(
        values,
        color_type,
        bits,
        palette=palette,
        interlaced=interlaced,
        extra=extra,
        filters=filters,
    )
    np.testing.assert_array_equal(read_stored(data).values, as_stored(values, color_type))


@pytest.mark.parametrize(("color_type", "bits", "interlaced"), SIXTEEN_BITS)
def test_sixteen_bits_are_refused_in_every_form(tmp_path, color_type, bits, interlaced):
    path = tmp_path / "deep.png"
    path.write_bytes(encode(values_of(color_type, bits), color_type, bits, interlaced=interlaced))
    with pytest.raises(ValueError, match=r"mask .*deep\.png has 16 bits a channel; convert it"):
        read_mask(path)


@pytest.mark.parametrize(
    ("color_type", "kind", "message"),
    [
        (
            PALETTE,
            b"PLTE",
            "cannot be decoded: it has no palette (PLTE), which its",
        ),
        (PALETTE, b"IHDR", "does not begin with the header (IHDR) of a PNG"),
        (GREY, b"IHDR", "does not begin with the header (IHDR) of a PNG"),
        (GREY, b"IDAT", "cannot be decoded: not all of its pixels are there"),
    ],
)
def test_png_without_a_chunk_it_needs_is_one_sentence_and_no_key_error(
    tmp_path, color_type, kind, message
):
    data = encode(values_of(color_type, 4), color_type, 4, palette=palette_of(4))
    path = tmp_path / "a.png"
    path.write_bytes(assemble(part for part in take_apart(data) if part[0] != kind))
    with pytest.raises(ValueError, match=r"mask .*a\.png ") as caught:
        read_mask(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(
    form=st.sampled_from(EIGHT_BITS),
    position=st.floats(0, 1, exclude_max=True),
    change=st.integers(1, 255),
    cut=st.booleans(),
)
def test_any_changed_or_missing_byte_is_refused(form, position, change, cut):
    color_type, bits, interlaced = form
    palette = palette_of(bits) if color_type == PALETTE else None
    data = bytearray(
        encode(
            values_of(color_type, bits), color_type, bits, palette=palette, interlaced=interlaced
        )
    )
    where = 8 + int(position * (len(data) - 8))  # the signature tells that it is a PNG
    data[where] ^= change
    with pytest.raises(ValueError, match=TRUNCATED):
        read_stored(bytes(data[:where] if cut else data))


@settings(max_examples=200, deadline=None)
@given(
    form=st.sampled_from(EIGHT_BITS),
    at=st.integers(0, 5),
    position=st.floats(0, 1, exclude_max=True),
    change=st.integers(1, 255),
)
def test_nonsense_with_right_checksums_is_pixels_or_a_value_error(form, at, position, change):
    color_type, bits, interlaced = form
    palette = palette_of(bits) if color_type == PALETTE else None
    parts = take_apart(
        encode(
            values_of(color_type, bits),
            color_type,
            bits,
            palette=palette,
            interlaced=interlaced,
            extra=[(b"tRNS", b"\0\1"), (b"tEXt", b"a\0b")],
        )
    )
    kind, content = parts[at % (len(parts) - 1)]
    broken = bytearray(content)
    broken[int(position * len(broken))] ^= change
    parts[at % (len(parts) - 1)] = (kind, bytes(broken))
    try:
        stored = read_stored(assemble(parts))
    except ValueError:
        return
    assert stored.values.dtype == np.uint8
    assert stored.values.size > 0


@pytest.mark.parametrize(("color_type", "bits", "interlaced"), EIGHT_BITS)
def test_rows_that_the_pixel_data_lack_are_not_black(color_type, bits, interlaced):
    """Pillow decodes such a file, whose checksums are right, and leaves the rest 0."""
    palette = palette_of(bits) if color_type == PALETTE else None
    values = values_of(color_type, bits)
    data = encode(values, color_type, bits, palette=palette, interlaced=interlaced)
    (kind, header), *parts = take_apart(data)
    taller = header[:4] + struct.pack(">I", values.shape[0] + 1) + header[8:]
    with pytest.raises(ValueError, match="not all of its pixels are there; save it again"):
        read_stored(assemble([(kind, taller), *parts]))


@pytest.mark.parametrize("side", [3, 64])
def test_pixel_data_are_counted_piece_by_piece(side, monkeypatch):
    """So that a small file which inflates to gigabytes does not fill the memory."""
    monkeypatch.setattr(png, "_PIECE", 7)
    values = np.zeros((side, side), np.uint8)
    np.testing.assert_array_equal(png.read_stored(encode(values, GREY, 8)).values, values)
    parts = dict(take_apart(encode(values, GREY, 8)))
    parts[b"IDAT"] = zlib.compress(bytes(side * (side + 1) - 1))
    with pytest.raises(ValueError, match="not all of its pixels"):
        png.read_stored(assemble(parts.items()))


def test_pixel_data_with_a_wrong_checksum_of_their_own_are_refused():
    parts = dict(take_apart(encode(values_of(GREY, 8), GREY, 8)))
    parts[b"IDAT"] = zlib.compress(bytes(13 * 12))[:-1] + b"\0"
    with pytest.raises(ValueError, match="incorrect data check"):
        read_stored(assemble(parts.items()))


def test_mask_beyond_pillows_limit_for_the_process_is_read_without_a_word(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    labels = np.zeros((40, 50), np.uint8)
    Image.fromarray(labels).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_mask(path), labels)


def test_header_of_more_pixels_than_can_be_read_is_refused_before_any_is_allocated():
    header = struct.pack(">IIBBBBB", 1 << 20, 1 << 20, 8, GREY, 0, 0, 0)
    data = assemble([(b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")])
    with pytest.raises(ValueError, match=r"has 1048576 x 1048576 pixels \(rows x columns\), more"):
        read_stored(data)


def test_truncated_mask_is_refused_where_a_program_told_pillow_to_fill_it(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encode(values_of(GREY, 4), GREY, 4)
    for end in (-13, -20, 60):
        (tmp_path / "cut.png").write_bytes(data[:end])
        with pytest.raises(ValueError, match=TRUNCATED):
            read_mask(tmp_path / "cut.png")


@pytest.mark.parametrize("box", [(8, 8, 0, 0), (4, 4, 0, 0), (4, 4, 3, 2)])
def test_animation_gives_the_image_of_viewers_that_show_no_animation(box):
    """Pillow would give a first frame that fills a part only, on black."""
    values = np.arange(64, dtype=np.uint8).reshape(8, 8) % 16
    control = struct.pack(">IIIIIHHBB", 0, *box, 1, 10, 0, 0)
    extra = [(b"acTL", struct.pack(">II", 3, 0)), (b"fcTL", control)]
    data = encode(values, GREY, 8, extra=extra)
    np.testing.assert_array_equal(read_stored(data).values, values)


def test_texts_and_profiles_beyond_pillows_limits_do_not_matter():
    values = values_of(GREY, 8)
    packed = zlib.compress(bytes(3 << 20))
    extra = [(b"iCCP", b"x\0\0" + packed), (b"zTXt", b"x\0\0" + packed), (b"gAMA", b"")]
    np.testing.assert_array_equal(read_stored(encode(values, GREY, 8, extra=extra)).values, values)


def test_chunk_that_is_essential_and_unknown_is_refused():
    data = encode(values_of(GREY, 8), GREY, 8, extra=[(b"ABCD", b"")])
    with pytest.raises(ValueError, match="its chunk ABCD is not of the PNG standard"):
        read_stored(data)


def test_mask_can_be_written_to():
    assert read_stored(encode(values_of(GREY, 8), GREY, 8)).values.flags.writeable


@pytest.mark.parametrize("color_type", [RGB, RGB_ALPHA])
def test_colors_without_a_palette_are_refused_with_their_number_of_channels(tmp_path, color_type):
    path = tmp_path / "a.png"
    path.write_bytes(encode(values_of(color_type, 8), color_type, 8))
    with pytest.raises(ValueError, match=f"has {CHANNELS[color_type]} channels where one of class"):
        read_mask(path, INDICES)


@pytest.mark.parametrize("interlaced", [False, True])
def test_transparent_colors_are_the_palettes_all_the_same(tmp_path, interlaced):
    labels = values_of(GREY, 4)
    path = tmp_path / "a.png"
    path.write_bytes(
        encode(ISAID_PALETTE[labels], RGB, 8, interlaced=interlaced, extra=[(b"tRNS", b"\0\0" * 3)])
    )
    np.testing.assert_array_equal(read_mask(path), labels)


@pytest.mark.parametrize(("color_type", "bits", "interlaced"), EIGHT_BITS)
def test_images_are_checked_for_damage_too(tmp_path, color_type, bits, interlaced, capfd):
    palette = palette_of(bits) if color_type == PALETTE else None
    data = encode(
        values_of(color_type, bits), color_type, bits, palette=palette, interlaced=interlaced
    )
    path = tmp_path / "a.png"
    path.write_bytes(data)
    assert read_image(path).shape == (13, 11, 3)
    path.write_bytes(data[:-30] + b"x" + data[-29:])
    with pytest.raises(ValueError, match=rf"image .*a\.png {TRUNCATED}"):
        read_image(path)
    assert capfd.readouterr().err == ""
