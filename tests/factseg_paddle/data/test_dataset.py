import itertools
import pickle
import threading
from contextlib import closing

import numpy as np
import paddle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factseg_paddle.data.dataset import PatchDataset, PatchSampler
from factseg_paddle.data.loader import load_batches
from factseg_paddle.data.open import open_pairs
from factseg_paddle.data.pairs import DataError
from factseg_paddle.data.patches import Window
from factseg_paddle.data.store.prepare import prepare_isaid
from tests.factseg_paddle.data.layouts.isaid_files import (
    image_of,
    isaid,
    mask_of,
    transforms,
    write_isaid,
)

RANDOM = [
    {"name": "horizontal_flip"},
    {"name": "vertical_flip"},
    {"name": "rot90"},
    {"name": "random_scale", "minimum": 0.7, "maximum": 1.4},
    {"name": "random_crop", "size": 32},
    {"name": "color_jitter", "brightness": 0.2},
    {"name": "normalize"},
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("isaid")
    write_isaid(folder)
    return folder


def patches(root, given=RANDOM, seed=5):
    pairs = open_pairs(isaid(root), "train")
    return PatchDataset(pairs, patch_size=64, stride=40, transforms=transforms(*given), seed=seed)


def test_windows_follow_the_images_and_the_grid(root):
    dataset = patches(root)
    assert dataset.patch_size == (32, 32)
    # 128 x 96: 3 x 2; 64 x 128: 1 x 3; 100 x 128: 2 x 3
    assert len(dataset) == 6 + 3 + 6
    assert dataset.windows[:3] == (
        (0, Window(0, 0, 64, 64)),
        (0, Window(0, 32, 64, 64)),
        (0, Window(40, 0, 64, 64)),
    )
    assert dataset.windows[6] == (1, Window(0, 0, 64, 64))


@pytest.mark.parametrize(
    ("split", "name", "count"), [("train", "P0005", 2), ("val", "P0003", 4), ("val", "P0004", 3)]
)
def test_real_images_have_the_known_number_of_patches(shared_data, split, name, count):
    pairs = open_pairs(isaid(shared_data("isaid")), split)
    padded = transforms({"name": "pad", "size": 896})
    dataset = PatchDataset(pairs, patch_size=896, stride=512, transforms=padded, seed=0)
    index = next(index for index in range(len(pairs)) if pairs.name(index) == name)
    assert sum(image == index for image, _ in dataset.windows) == count


def test_sample_is_the_window_of_image_and_labels(root):
    dataset = patches(root, ())
    pairs = open_pairs(isaid(root), "train")
    for index, (image_index, window) in enumerate(dataset.windows):
        image, labels = dataset[0, index]
        assert image.dtype == np.float32
        assert labels.dtype == np.int64
        assert image.flags.c_contiguous
        np.testing.assert_array_equal(
            image, pairs.read_image(image_index, window).transpose(2, 0, 1)
        )
        np.testing.assert_array_equal(labels, pairs.read_labels(image_index, window))


def test_randomness_is_a_function_of_seed_epoch_and_index(root):
    dataset, again = patches(root), patches(root)
    first = {key: dataset[key] for key in itertools.product((0, 1, 7), range(3))}
    for key in reversed(list(first)):
        for one, two in zip(first[key], again[key], strict=True):
            np.testing.assert_array_equal(one, two)
    flat = {image.tobytes() for image, _ in first.values()}
    assert len(flat) == 9  # another epoch is another sample
    assert patches(root, seed=6)[0, 0][0].tobytes() not in flat


def test_order_and_samples_do_not_share_a_stream():
    from factseg_paddle.data.dataset import _generator

    keys = [(0,), (0, 0), (1, 0), (0, 1), (0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0)]
    seen = {_generator(2333, *key).bytes(16) for key in keys}
    assert len(seen) == len(keys)


def stream(root, workers, start, count):
    """So many batches, all held at once, as training takes them."""
    dataset = patches(root)
    sampler = PatchSampler(len(dataset), batch_size=2, seed=1, start=start)
    loader = load_batches(dataset, sampler, num_workers=workers, to_tensor=paddle.to_tensor)
    with closing(loader):
        taken = list(itertools.islice(loader, count))
    return [(images.numpy(), labels.numpy()) for images, labels in taken]


def assert_same(some, others):
    for (images, labels), (other_images, other_labels) in zip(some, others, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


@pytest.mark.parametrize("kind", ["raw", "prepared"])
def test_stream_is_the_same_with_0_and_2_workers_and_after_a_resume(root, tmp_path, kind):
    dataset = patches(root)
    sampler = PatchSampler(len(dataset), batch_size=2, seed=1)
    samples = ([dataset[key] for key in keys] for keys in itertools.islice(sampler, 10))
    expected = [[np.stack(arrays) for arrays in zip(*batch, strict=True)] for batch in samples]
    if kind == "prepared":
        prepare_isaid(root, tmp_path, num_workers=0)
        root = tmp_path
    whole = stream(root, 0, 0, 10)  # an epoch has 7 batches
    assert [images.shape for images, _ in whole] == [(2, 3, 32, 32)] * 10
    assert_same(whole, expected)
    assert_same(stream(root, 2, 0, 10), expected)
    assert_same(stream(root, 2, 4, 6), expected[4:])


def test_workers_start_while_another_thread_reads_the_store(root, tmp_path):
    """A fork at such a moment inherited GDAL's locked lock, and `make test` hung for an hour."""
    prepare_isaid(root, tmp_path, num_workers=0)
    dataset, expected, done = patches(tmp_path), stream(root, 0, 0, 4), threading.Event()

    def read():
        while not done.is_set():
            dataset[0, 0]

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(2):
            assert_same(stream(tmp_path, 2, 0, 4), expected)
    finally:
        done.set()
        reader.join()


def test_unreadable_sample_names_the_file(tmp_path):
    write_isaid(tmp_path)
    path = image_of(tmp_path / "train", "P0001")
    path.write_bytes(path.read_bytes()[:-60])
    dataset = patches(tmp_path)
    index = next(index for index, (image, _) in enumerate(dataset.windows) if image == 1)
    dataset[0, 0]
    with pytest.raises(DataError, match=r"P0001\.png is truncated"):
        dataset[0, index]
    mask_of(tmp_path / "train", "P0000").unlink()
    with pytest.raises(DataError, match=r"P0000_instance_color_RGB\.png does not exist"):
        pickle.loads(pickle.dumps(dataset))[0, 0]  # noqa: S301 - ours; the cache stays behind


def test_images_without_masks_and_uneven_patches_are_refused(root, tmp_path):
    write_isaid(tmp_path)
    mask_of(tmp_path / "train", "P0000").unlink()
    pairs = open_pairs(isaid(tmp_path), "train", require_masks=False)
    with pytest.raises(DataError, match="no images with masks to train on"):
        PatchDataset(pairs, patch_size=64, stride=40, transforms=(), seed=0)
    with pytest.raises(DataError, match=r"add pad or random_crop to data\.transforms"):
        PatchDataset(
            open_pairs(isaid(root), "train"), patch_size=128, stride=40, transforms=(), seed=0
        )


# The order ------------------------------------------------------------------------------------

SETTINGS = st.tuples(
    st.integers(1, 60), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**40)
).filter(lambda drawn: drawn[0] >= drawn[1] * drawn[2])


def batches(drawn, count, rank=0, start=0):
    length, batch_size, ranks, seed = drawn
    sampler = PatchSampler(
        length, batch_size=batch_size, seed=seed, rank=rank, ranks=ranks, start=start
    )
    return list(itertools.islice(sampler, count))


@given(SETTINGS, st.integers(0, 3))
def test_ranks_are_disjoint_and_together_a_permutation(drawn, epoch):
    length, batch_size, ranks, _ = drawn
    per_epoch = length // (batch_size * ranks)
    keys = [
        key
        for rank in range(ranks)
        for batch in batches(drawn, per_epoch, rank, epoch * per_epoch)
        for key in batch
    ]
    assert {key[0] for key in keys} == {epoch}
    indices = [key[1] for key in keys]
    assert len(set(indices)) == len(indices) == per_epoch * batch_size * ranks
    assert set(indices) <= set(range(length))
    assert length - len(indices) < batch_size * ranks  # less than a batch is dropped


@given(SETTINGS, st.integers(0, 25))
def test_start_equals_skipping(drawn, skipped):
    rank = drawn[2] - 1
    assert batches(drawn, 8, rank, skipped) == batches(drawn, 8 + skipped, rank)[skipped:]


@given(SETTINGS)
def test_ranks_share_out_the_batches_of_one_process(drawn):
    length, batch_size, ranks, seed = drawn
    one = batches((length, batch_size * ranks, 1, seed), 6)
    shared = [batches(drawn, 6, rank) for rank in range(ranks)]
    for whole, *parts in zip(one, *shared, strict=True):
        assert whole == list(itertools.chain(*parts))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {
        tuple(itertools.chain(*(batch for batch in batches((50, 5, 1, seed), 10, 0, start))))
        for seed in (1, 2)
        for start in (0, 10, 20)
    }
    without_epoch = {tuple(index for _, index in order) for order in orders}
    assert len(without_epoch) == 6
    assert tuple(range(50)) not in without_epoch


def test_every_place_in_the_order_is_as_likely():
    places = [batches((8, 8, 1, seed), 1)[0].index((0, 3)) for seed in range(400)]
    counts = np.bincount(places, minlength=8)
    assert counts.min() > 25  # 50 expected, 6.6 the standard deviation
    assert counts.max() < 80


def test_batches_per_epoch_and_guards():
    assert PatchSampler(33978, batch_size=8, seed=0).batches_per_epoch == 4247
    assert PatchSampler(33978, batch_size=4, seed=0, ranks=2).batches_per_epoch == 4247
    with pytest.raises(DataError, match=r"7 training patches, fewer than the 8 of one batch"):
        PatchSampler(7, batch_size=4, seed=0, ranks=2)
    for options in ({"batch_size": 0}, {"rank": 2, "ranks": 2}, {"start": -1}):
        with pytest.raises(ValueError, match="batch_size is at least 1, rank 0 to ranks - 1"):
            PatchSampler(9, **{"batch_size": 1, "seed": 0, **options})
