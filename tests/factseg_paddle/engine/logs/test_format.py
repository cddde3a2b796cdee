"""The lines of logs: written in the published form, and read back from both kinds of log."""

import csv
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factseg_paddle.engine.logs.format import (
    LogError,
    TrainLine,
    class_table,
    format_evaluation,
    format_train_line,
    iteration_of,
    parse_log,
    parse_train_line,
)
from tests.factseg_paddle.engine.logs.lines import class_iou, line, log_text

PUBLISHED = (
    "[TRAIN] epoch: 1, iter: 50/60000, loss: 1.6852, lr: 0.006995, batch_cost: 3.0193, "
    "reader_cost: 0.59019, ips: 2.6496 samples/sec | ETA 50:16:49"
)
PUBLISHED_LINE = TrainLine(
    epoch=1,
    iteration=50,
    iters=60000,
    loss=1.6852,
    lr=0.006995,
    batch_cost=3.0193,
    reader_cost=0.59019,
    ips=2.6496,
    eta=50 * 3600 + 16 * 60 + 49,
)

positive = st.floats(0, 1e6)
lines = st.builds(
    TrainLine,
    epoch=st.integers(1, 10**6),
    iteration=st.integers(1, 10**9),
    iters=st.integers(1, 10**9),
    loss=st.floats(width=32),
    lr=positive,
    batch_cost=positive,
    reader_cost=positive,
    ips=positive,
    eta=st.integers(0, 10**8),
    grad_norm=st.none() | st.floats(0) | st.just(math.nan),
    loss_scale=st.none() | st.sampled_from([2.0**n for n in range(-14, 33)]),
    skipped=st.none() | st.integers(0, 10**9),
)


# One line -------------------------------------------------------------------------------------


def test_published_line_is_read_and_written_as_it_is():
    assert parse_train_line(PUBLISHED) == PUBLISHED_LINE
    assert format_train_line(PUBLISHED_LINE) == PUBLISHED


def test_our_fields_follow_the_time_that_is_left():
    ours = format_train_line(line(50, grad_norm=3.14159, loss_scale=1024.0, skipped=2))
    assert ours.endswith(" | ETA 00:01:15 | grad_norm: 3.1416, loss_scale: 1024, skipped: 2")
    assert format_train_line(line(50)).endswith(" | grad_norm: 3.2500, skipped: 0")


def test_reader_that_knows_the_published_form_alone_reads_ours():
    """The pattern is written from the published line, not from our code."""
    known = re.compile(
        r"\[TRAIN\] epoch: (\d+), iter: (\d+)/(\d+), loss: ([\d.]+), lr: ([\d.]+), "
        r"batch_cost: ([\d.]+), reader_cost: ([\d.]+), ips: ([\d.]+) samples/sec \| ETA ([\d:]+)"
    )
    assert known.match(PUBLISHED)
    found = known.match(format_train_line(line(50)))
    assert (found[2], found[3], found[9]) == ("50", "100", "00:01:15")


@pytest.mark.parametrize("prefix", ["", "[2022-10-08 14:30:56] [INFO] : ", "0: ", "\x1b[32m"])
@pytest.mark.parametrize("suffix", ["", " ", "\r"])
def test_what_stands_around_a_line_does_not_matter(prefix, suffix):
    assert parse_train_line(prefix + PUBLISHED + suffix) == PUBLISHED_LINE


@given(line=lines)
def test_line_that_was_read_is_written_as_it_was(line):
    text = format_train_line(line)
    parsed = parse_train_line(text)
    assert format_train_line(parsed) == text
    exact = ("epoch", "iteration", "iters", "eta", "loss_scale", "skipped")
    assert [getattr(parsed, name) for name in exact] == [getattr(line, name) for name in exact]
    np.testing.assert_allclose(parsed.loss, line.loss, atol=5.1e-5)
    np.testing.assert_allclose(parsed.lr, line.lr, atol=5.1e-7)
    assert "\n" not in text


@given(line=lines, length=st.integers(0, 400))
def test_part_of_a_line_is_never_taken_for_another_iteration(line, length):
    text = format_train_line(line)
    parsed = parse_train_line(text[:length])
    if parsed is not None:
        assert (parsed.iteration, parsed.iters) == (line.iteration, line.iters)
        assert length >= text.index("ETA")


@pytest.mark.parametrize(
    "text",
    ["", "nothing", PUBLISHED[:-1], PUBLISHED[:40], PUBLISHED.replace("1.6852", "much"),
     PUBLISHED + " | grad_norm: 3.1,"],
)  # fmt: skip
def test_what_is_no_whole_line_is_none(text):
    assert parse_train_line(text) is None


@pytest.mark.parametrize(
    ("text", "iteration"),
    [
        (PUBLISHED, 50),
        (PUBLISHED[:27], 50),
        ("[EVAL] iter: 5000, mIoU: 0.4589", 5000),
        ("[EVAL] epoch: 2, iter: 5000/60000, validation mIoU (-1.0000)", 5000),
        ("|   0   |  0.9843232  |", None),
        ("resumed at iter: 7", None),
    ],
)
def test_iteration_of_a_line(text, iteration):
    assert iteration_of(text) == iteration


# Tables ---------------------------------------------------------------------------------------


def test_table_is_of_the_published_form():
    assert class_table([0.9843232, 0.25, math.nan, 0.0, 1e-5, 1.0], 0.458866).splitlines() == [
        "+-------+-----------+",
        "| class |    iou    |",
        "+-------+-----------+",
        "|   0   | 0.9843232 |",
        "|   1   |    0.25   |",
        "|   2   |    nan    |",
        "|   3   |    0.0    |",
        "|   4   |  0.00001  |",
        "|   5   |    1.0    |",
        "|  mIoU |  0.458866 |",
        "+-------+-----------+",
    ]


@given(
    iou=st.lists(st.floats(0, 1, width=32) | st.just(math.nan), min_size=2, max_size=20),
    iteration=st.integers(1, 10**9),
)
def test_evaluation_is_read_back_to_the_bit_of_float32(iou, iteration, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "evaluation.log"
    path.write_text(format_evaluation(iteration, iou, 0.5) + "\n")
    (record,) = parse_log(path).evaluations
    assert record.iteration == iteration
    assert record.mean_iou == 0.5
    np.testing.assert_array_equal(np.float32(record.class_iou), np.float32(iou))


# Our logs -------------------------------------------------------------------------------------


def test_log_of_ours_is_read_whole(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(log_text(range(10, 101, 10)))
    log = parse_log(path)
    assert [one.iteration for one in log.train] == list(range(10, 101, 10))
    assert [one.iteration for one in log.evaluations] == [20, 40, 60, 80, 100]
    assert log.notes == ()
    np.testing.assert_allclose(log.evaluations[1].class_iou, class_iou(40), rtol=1e-6)


def test_log_that_was_cut_anywhere_gives_what_is_whole_and_says_so(tmp_path):
    path = tmp_path / "train.log"
    text = log_text(range(10, 41, 10))
    # where each record begins and is whole: a line with its end, a table with its last row
    spans = [(m.start(), m.end()) for m in re.finditer(r"\[TRAIN\].*\n", text)]
    tables = [(m.start(), m.end()) for m in re.finditer(r"\| class(.|\n)*?mIoU.*\|", text)]
    path.write_text(text)
    full = parse_log(path)
    for length in range(spans[0][1], len(text), 3):
        if re.search(r"ETA [\d:]{8} ?$", text[:length]):
            continue  # a whole line of a published log
        path.write_text(text[:length])
        log = parse_log(path)
        assert log.train == full.train[: sum(end <= length for _, end in spans)]
        assert log.evaluations == full.evaluations[: sum(end <= length for _, end in tables)]
        # a head is known as such once its line is whole
        heads = [(start + len("| class |    iou     |"), end) for start, end in tables]
        marks = [(start + len("[TRAIN]"), end) for start, end in spans]
        is_cut = [start <= length < end for start, end in marks + heads]
        assert ["cut short and was left out" in note for note in log.notes] == [True] * sum(is_cut)


def test_last_line_of_a_published_log_needs_no_end_of_line(tmp_path):
    (tmp_path / "a.log").write_text(PUBLISHED)
    assert parse_log(tmp_path / "a.log").train == (PUBLISHED_LINE,)


def test_part_of_the_last_number_is_not_taken_for_the_number(tmp_path):
    """`skipped: 1` may be the beginning of `skipped: 12`."""
    text = format_train_line(line(1)) + "\n" + format_train_line(line(2, skipped=12))
    (tmp_path / "a.log").write_text(text[:-1])
    log = parse_log(tmp_path / "a.log")
    assert [one.iteration for one in log.train] == [1]
    assert log.notes == ("line 2 is cut short and was left out",)


def test_iterations_that_start_again_replace_the_earlier_ones(tmp_path):
    texts = [format_train_line(line(n, loss=n + start)) for start in (0, 1) for n in (1, 2, 3)]
    (tmp_path / "a.log").write_text("\n".join([*texts[:3], *texts[4:], ""]))
    log = parse_log(tmp_path / "a.log")
    assert [(one.iteration, one.loss) for one in log.train] == [(1, 1), (2, 3), (3, 4)]
    assert log.notes == (
        "line 4: the run went on at iteration 2; 2 earlier records from there on were left out",
    )


def test_table_that_a_resumed_run_interrupts_is_left_out(tmp_path):
    table = format_evaluation(20, [0.1, 0.2], 0.15).splitlines()
    (tmp_path / "a.log").write_text("\n".join([*table[:5], PUBLISHED, ""]))
    log = parse_log(tmp_path / "a.log")
    assert (len(log.train), log.evaluations) == (1, ())
    assert log.notes == ("line 6: the table of iteration 20 is cut short and was left out",)


def test_table_without_an_iteration_or_with_a_class_left_out_is_not_read(tmp_path):
    rows = format_evaluation(20, [0.1, 0.2, 0.3], 0.2).splitlines()
    (tmp_path / "a.log").write_text("\n".join([PUBLISHED, *rows[1:], *rows[:5], *rows[6:], ""]))
    log = parse_log(tmp_path / "a.log")
    assert log.evaluations == ()
    assert log.notes == (
        "line 3: a table of no iteration was left out",
        "line 15: the table of iteration 20 is cut short and was left out",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.log is no log of a training run: it has no \[TRAIN\] line and no table"),
        (b"seed: 3\n", "it has no"),
        (bytes(range(256)) * 40, "it has no"),
        (PUBLISHED[:60].encode(), "line 1 is cut short and was left out"),
    ],
)
def test_file_without_a_record_is_an_error_in_one_sentence(tmp_path, content, message):
    (tmp_path / "a.log").write_bytes(content)
    with pytest.raises(LogError, match=message) as caught:
        parse_log(tmp_path / "a.log")
    assert "\n" not in str(caught.value)


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(LogError, match=r"none\.log can't be read: No such file"):
        parse_log(tmp_path / "none.log")


# The published logs ---------------------------------------------------------------------------


def test_published_training_log_is_read_and_written_as_it_is(shared_data):
    path = shared_data("factseg_logs/Log_train_log.txt")
    log = parse_log(path)
    assert (len(log.train), log.evaluations, log.notes) == (1200, (), ())
    with shared_data("factseg_logs/train_parsed.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = {"epoch": "epoch", "iter": "iteration", "loss": "loss", "lr": "lr",
             "batch_cost": "batch_cost", "reader_cost": "reader_cost", "ips": "ips"}  # fmt: skip
    for row, one in zip(rows, log.train, strict=True):
        assert {key: float(value) for key, value in row.items()} == {
            key: getattr(one, name) for key, name in names.items()
        }
    published = [text.strip() for text in path.read_text().splitlines() if "[TRAIN]" in text]
    assert [format_train_line(one) for one in log.train] == published


def test_published_learning_rates_are_those_of_the_schedule(shared_data):
    log = parse_log(shared_data("factseg_logs/Log_train_log.txt"))
    for one in log.train:
        expected = 0.007 * (1 - (one.iteration - 1) / 60000) ** 0.9
        assert one.lr == pytest.approx(expected, abs=5.01e-7)


def test_published_evaluation_log_is_read_and_written_as_it_is(shared_data):
    path = shared_data("factseg_logs/Log_eval_log.txt")
    log = parse_log(path)
    parsed = json.loads(shared_data("factseg_logs/eval_parsed.json").read_text())
    assert [
        {"iter": one.iteration, "iou": {str(n): v for n, v in enumerate(one.class_iou)},
         "miou": one.mean_iou}
        for one in log.evaluations
    ] == parsed  # fmt: skip
    assert (len(parsed), log.notes) == (12, ())
    for one in log.evaluations:
        assert one.mean_iou == pytest.approx(np.mean(one.class_iou), abs=1e-7)
        # the + that ends the table of iteration 45000 is not in the file
        assert class_table(one.class_iou, one.mean_iou)[:-1] in path.read_text()
    best = max(log.evaluations, key=lambda one: one.mean_iou)
    assert (best.iteration, round(best.mean_iou, 5)) == (50000, 0.64521)


def test_published_line_with_a_time_before_it_is_read(shared_data):
    (one,) = parse_log(shared_data("factseg_logs/output_train_log.txt")).train
    assert (one.iteration, one.loss) == (50, 2.1254)
