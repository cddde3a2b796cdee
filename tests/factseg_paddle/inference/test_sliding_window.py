"""The window engine against a plain float64 computation, with predictors of known answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factseg_paddle.config.schema import Evaluation
from factseg_paddle.inference.sliding_window import LABEL_ROWS, STRIP_ROWS, SlidingWindow
from factseg_paddle.transforms import Normalization
from tests.factseg_paddle.inference import naive

RAW = {"normalization": Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))}


def image_of(height, width, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def reader(image):
    return lambda w: image[w.top : w.top + w.height, w.left : w.left + w.width]


def whole(engine, image):
    """Probabilities and labels of an image, with the tops checked."""
    height, width = image.shape[:2]
    strips, reached = [], 0
    for top, strip in engine.probabilities(reader(image), height, width):
        assert top == reached
        assert strip.dtype == np.float32
        assert strip.shape[1] <= STRIP_ROWS
        reached += strip.shape[1]
        strips.append(strip)
    assert reached == height
    labels, reached = [], 0
    for top, rows in engine.labels(reader(image), height, width):
        assert top == reached
        assert rows.dtype == np.uint8
        reached += len(rows)
        labels.append(rows)
    assert reached == height
    return np.concatenate(strips, axis=1), np.concatenate(labels)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def per_pixel(images):
    """Three classes that depend on the pixel's own colour."""
    return softmax(np.stack([images[:, 0], images[:, 1], images[:, 2]], axis=1))


def by_position(images):
    """Three classes that depend on the colour and on where in the window the pixel lies."""
    n, _, height, width = images.shape
    y = np.linspace(0, 3, height)[:, None] + np.zeros((n, height, width))
    x = np.linspace(0, 2, width) + np.zeros((n, height, width))
    return softmax(np.stack([images[:, 0] + y, images[:, 1] + x, images[:, 2]], axis=1))


class Growing:
    """Says 1, 2, 3, ... in successive windows, so that the blending shows in the numbers."""

    def __init__(self):
        self.calls = 0

    def __call__(self, images):
        n, _, height, width = images.shape
        values = np.arange(self.calls + 1, self.calls + n + 1, dtype=np.float32)
        self.calls += n
        return np.broadcast_to(values[:, None, None, None], (n, 2, height, width)).copy()


def test_constant_predictor_gives_the_constant_everywhere():
    answer = np.array([0.1, 0.6, 0.3], np.float32)[None, :, None, None]
    engine = SlidingWindow(lambda x: answer + np.zeros_like(x[:, :1]), 64, 40)
    probabilities, labels = whole(engine, image_of(131, 77))
    np.testing.assert_allclose(probabilities, answer[0] + np.zeros((3, 131, 77)), rtol=1e-6)
    assert (labels == 1).all()


def test_identity_predictor_returns_its_image():
    image = image_of(97, 150)
    engine = SlidingWindow(lambda x: x, 64, 32, **RAW)
    probabilities, labels = whole(engine, image)
    np.testing.assert_array_equal(probabilities, image.transpose(2, 0, 1))
    np.testing.assert_array_equal(labels, image.argmax(axis=2))


def test_overlapping_windows_are_averaged_in_numbers_done_by_hand():
    # windows at columns 0, 32, 48 of 112, one row of them: they say 1, 2 and 3
    probabilities, _ = whole_once(SlidingWindow(Growing(), 64, 32), image_of(64, 112))
    columns = probabilities[0, 0]
    assert columns[:32].tolist() == [1] * 32
    assert columns[32:48].tolist() == [1.5] * 16
    assert columns[48:64].tolist() == [2] * 16
    assert columns[64:96].tolist() == [2.5] * 32
    assert columns[96:].tolist() == [3] * 16
    assert (probabilities == columns).all()


def test_windows_come_row_by_row_and_the_last_is_snapped_back():
    # two rows of two windows: 1 2 above, 3 4 below, from row and column 6
    probabilities, _ = whole_once(SlidingWindow(Growing(), 64, 64), image_of(70, 70))
    assert probabilities[0, 0, 0] == 1
    assert probabilities[0, 0, 69] == 2
    assert probabilities[0, 69, 0] == 3
    assert probabilities[0, 69, 69] == 4
    assert probabilities[0, 10, 10] == 2.5
    assert probabilities[0, 10, 0] == 2


def whole_once(engine, image):
    height, width = image.shape[:2]
    strips = [s for _, s in engine.probabilities(reader(image), height, width)]
    return np.concatenate(strips, axis=1), engine


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_batches_across_rows_of_windows_change_nothing(batch_size):
    sizes = []

    def predict(images):
        sizes.append(len(images))
        return by_position(images)

    image = image_of(150, 130)
    one, _ = whole(SlidingWindow(by_position, 64, 40), image)
    many, _ = whole_once(SlidingWindow(predict, 64, 40, batch_size), image)
    np.testing.assert_array_equal(one, many)
    windows = 4 * 3
    full, rest = divmod(windows, batch_size)
    assert sizes == [batch_size] * full + ([rest] if rest else [])
    assert SlidingWindow(predict, 64, 40).count(150, 130) == windows


def test_padding_comes_after_normalising_at_the_right_and_bottom():
    seen = []

    def predict(images):
        seen.append(images)
        return images

    image = image_of(40, 50)
    whole_once(SlidingWindow(predict, 96, 96), image)
    (batch,) = seen
    assert batch.shape == (1, 3, 64, 64)
    assert batch.dtype == np.float32
    expected = (image - np.array(naive.MEAN)) / np.array(naive.STD)
    np.testing.assert_allclose(batch[0, :, :40, :50], expected.transpose(2, 0, 1), atol=1e-6)
    assert (batch[0, :, 40:] == 0).all()
    assert (batch[0, :, :, 50:] == 0).all()


def test_each_window_is_read_once_and_inside_the_image():
    image, read = image_of(150, 130), []

    def recording(window):
        read.append(window)
        return reader(image)(window)

    engine = SlidingWindow(per_pixel, 64, 40, flip=True)
    for _ in engine.probabilities(recording, 150, 130):
        pass
    assert len(read) == len(set(read)) == 12
    assert max(w.top + w.height for w in read) == 150
    assert max(w.left + w.width for w in read) == 130


def test_mirror_images_are_mirrored_back():
    image = image_of(90, 75)
    plain, _ = whole(SlidingWindow(per_pixel, 64, 40), image)
    flipped, _ = whole(SlidingWindow(per_pixel, 64, 40, flip=True), image)
    # a predictor that looks at each pixel alone can't tell
    np.testing.assert_allclose(flipped, plain, atol=1e-6)
    engine = SlidingWindow(by_position, 64, 40, flip=True)
    assert engine.count(90, 75) == 3 * 4
    leaning, _ = whole(engine, image)
    once, _ = whole(SlidingWindow(by_position, 64, 40), image)
    assert np.abs(leaning - once).max() > 0.1


odd = st.integers(1, 150)


@settings(max_examples=40, deadline=None)
@given(odd, odd, st.sampled_from([32, 64]), st.integers(1, 64), st.integers(1, 4), st.booleans())
def test_equals_the_naive_full_map(height, width, size, stride, batch_size, flip):
    stride = min(max(stride, size // 4), size)
    image = image_of(height, width, seed=height * 151 + width)
    engine = SlidingWindow(by_position, size, stride, batch_size, flip)
    probabilities, labels = whole(engine, image)
    exact = naive.probabilities(image, by_position, size=size, stride=stride, flip=flip)
    np.testing.assert_allclose(probabilities, exact, atol=2e-6)
    assert naive.same_classes(labels, exact)


@settings(max_examples=15, deadline=None)
@given(
    odd,
    odd,
    st.lists(st.sampled_from([0.5, 0.75, 1.0, 1.3, 2.0]), min_size=1, max_size=3),
    st.booleans(),
)
def test_equals_the_naive_full_map_at_several_scales(height, width, scales, flip):
    image = image_of(height, width, seed=height * 151 + width)
    engine = SlidingWindow(by_position, 64, 40, 2, flip, tuple(scales))
    probabilities, labels = whole(engine, image)
    exact = naive.probabilities(image, by_position, size=64, stride=40, flip=flip, scales=scales)
    np.testing.assert_allclose(probabilities, exact, atol=5e-5)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    assert naive.same_classes(labels, exact, tie=2e-4)


def test_labels_are_given_in_strips_of_many_rows():
    image = image_of(LABEL_ROWS + 500, 40)
    engine = SlidingWindow(per_pixel, 128, 96)
    tops = [top for top, _ in engine.labels(reader(image), *image.shape[:2])]
    assert tops[0] == 0
    assert len(tops) == 2
    assert LABEL_ROWS <= tops[1] < LABEL_ROWS + STRIP_ROWS


@pytest.mark.parametrize(
    ("scales", "read_to"), [((1.0,), 96), ((0.5, 1.0, 1.5), 256)], ids=["one scale", "three"]
)
def test_rows_are_given_before_the_image_is_read_to_its_end(scales, read_to):
    read = []

    def recording(window):
        read.append(window.top + window.height)
        return np.zeros((window.height, window.width, 3), np.uint8)

    engine = SlidingWindow(per_pixel, 64, 32, scales=scales)
    strips = engine.probabilities(recording, 10**6, 64)
    next(strips)
    assert max(read) <= read_to
    for _ in range(20):
        top, strip = next(strips)
        assert max(read) <= top + strip.shape[1] + read_to


def test_settings_of_a_configuration_are_all_taken():
    given_settings = Evaluation(
        patch_size=64, stride=32, batch_size=3, flip=True, scales=[0.5, 1.0]
    )
    own = {"normalization": Normalization((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "bgr")}
    engine = SlidingWindow.of_settings(per_pixel, given_settings, **own)
    assert engine == SlidingWindow(per_pixel, 64, 32, 3, True, (0.5, 1.0), **own)
    published = SlidingWindow.of_settings(per_pixel, Evaluation())
    assert published == SlidingWindow(per_pixel, 896, 512, 1)
    assert published.count(4000, 13383) == 208


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 65}, "stride 65 leaves gaps"),
        ({"stride": 0}, "stride 0 is below 1"),
        ({"batch_size": 0}, "batch_size 0 is below 1"),
        ({"scales": ()}, "give at least one, each above 0"),
        ({"scales": (1.0, 0.0)}, "give at least one, each above 0"),
    ],
)
def test_numbers_out_of_their_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SlidingWindow(per_pixel, **{"patch_size": 64, "stride": 32} | arguments)


@pytest.mark.parametrize(
    ("predict", "message"),
    [
        (lambda x: x[:, :, :32], r"gave \[1, 3, 32, 64\] .* \[1, 3, 64, 64\] would fit"),
        (lambda x: x[0], r"gave \[3, 64, 64\] .* \[1, C, 64, 64\] would fit"),
        (lambda x: x * np.nan, "not finite in the window at row 0, column 0"),
    ],
)
def test_a_predictor_that_answers_nonsense_is_refused(predict, message):
    with pytest.raises(ValueError, match=message):
        whole_once(SlidingWindow(predict, 64, 32), image_of(100, 100))


def test_a_predictor_that_changes_its_number_of_classes_is_refused():
    def predict(images):
        predict.calls += 1
        return images[:, : 4 - predict.calls]

    predict.calls = 0
    with pytest.raises(ValueError, match=r"gave \[1, 2, 64, 64\]"):
        whole_once(SlidingWindow(predict, 64, 32), image_of(100, 100))


def test_more_classes_than_a_byte_can_tell_are_refused():
    engine = SlidingWindow(lambda images: np.repeat(images[:, :1], 257, axis=1), 64, 32)
    with pytest.raises(ValueError, match="257 classes don't fit into 8 bits"):
        next(engine.labels(reader(image_of(40, 40)), 40, 40))


def test_a_reader_that_gives_another_size_is_refused():
    engine = SlidingWindow(per_pixel, 64, 32)
    with pytest.raises(ValueError, match=r"was read as \[64, 63, 3\], not \[64, 64, 3\]"):
        next(engine.probabilities(lambda _: np.zeros((64, 63, 3), np.uint8), 100, 100))
