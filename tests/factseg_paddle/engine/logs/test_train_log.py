"""`train.log`: appended, cut back on resume, whole after a kill."""

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factseg_paddle.engine.logs import train_log
from factseg_paddle.engine.logs.format import format_evaluation, format_train_line, parse_log
from factseg_paddle.engine.logs.train_log import TrainLog
from tests.factseg_paddle.engine.logs.lines import line, log_text
from tests.paths import REPO


def write_run(log: TrainLog, iterations: range) -> None:
    """What a run says from iteration to iteration."""
    for iteration in iterations:
        log.write(format_train_line(line(iteration)))
        if iteration % 20 == 0:
            log.write(format_evaluation(iteration, [0.5, iteration / 100], 0.25))


def whole(tmp_path: Path) -> str:
    """The log of a run that nobody interrupted."""
    path = tmp_path / "whole.log"
    with TrainLog(path) as log:
        write_run(log, range(10, 101, 10))
    return path.read_text()


def test_file_and_stream_say_the_same(tmp_path):
    stream = io.StringIO()
    with TrainLog(tmp_path / "train.log", stream=stream) as log:
        write_run(log, range(10, 31, 10))
        log.write("two\nlines\n")
    assert (tmp_path / "train.log").read_text() == stream.getvalue()
    assert stream.getvalue().endswith("two\nlines\n")


def test_line_is_in_the_file_at_once(tmp_path):
    with TrainLog(tmp_path / "train.log") as log:
        log.write("one")
        assert (tmp_path / "train.log").read_text() == "one\n"


def test_lines_of_later_iterations_are_dropped_on_resume(tmp_path):
    path = tmp_path / "train.log"
    expected = whole(tmp_path)
    with TrainLog(path) as log:
        write_run(log, range(10, 71, 10))
        log.write("a signal: a checkpoint is written")
    with TrainLog(path, 50) as log:
        write_run(log, range(60, 101, 10))
    assert path.read_text() == expected


@given(length=st.integers(0, 10**4), iteration=st.sampled_from(range(0, 101, 10)))
def test_log_cut_at_any_byte_goes_on_as_if_nothing_had_happened(
    length, iteration, tmp_path_factory
):
    """Killed at any byte after what the checkpoint's iteration had said, and resumed there."""
    folder = tmp_path_factory.mktemp("cut")
    expected = whole(folder)
    upto = io.StringIO()
    with TrainLog(folder / "upto.log", stream=upto) as log:
        write_run(log, range(10, iteration + 1, 10))
    path = folder / "train.log"
    path.write_text(expected[: max(length, len(upto.getvalue()))])
    with TrainLog(path, iteration) as log:
        write_run(log, range(iteration + 10, 101, 10))
    assert path.read_text() == expected


def test_table_that_was_cut_is_dropped_with_its_head(tmp_path):
    path = tmp_path / "train.log"
    text = log_text(range(10, 21, 10))
    for lost in range(1, len(format_evaluation(20, [0.5, 0.5], 0.5))):
        path.write_text(text[:-lost])
        TrainLog(path, 20).close()
        kept = path.read_text()
        assert kept.endswith("skipped: 0\n")
        assert "[EVAL]" not in kept
    path.write_text(text)
    TrainLog(path, 20).close()
    assert path.read_text() == text


def test_bytes_that_are_no_text_stay_and_carriage_returns_end_no_line(tmp_path):
    path = tmp_path / "train.log"
    content = b"\xff\xfe name\rof a file\n" + format_train_line(line(10)).encode() + b"\n"
    path.write_bytes(content + format_train_line(line(20)).encode() + b"\n")
    TrainLog(path, 10).close()
    assert path.read_bytes() == content


def test_new_run_drops_the_lines_of_one_that_reached_no_checkpoint(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(log_text(range(10, 41, 10)))
    TrainLog(path).close()
    assert path.read_text() == "the network starts from random weights\n"


def test_log_that_needs_no_cut_is_not_written_anew(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(log_text(range(10, 41, 10)))
    before = path.stat().st_ino
    TrainLog(path, 40).close()
    assert path.stat().st_ino == before


def test_killed_while_it_writes_and_resumed(tmp_path):
    path = tmp_path / "train.log"
    code = (
        "import sys, itertools\n"
        "from factseg_paddle.engine.logs.train_log import TrainLog\n"
        "from tests.factseg_paddle.engine.logs.test_train_log import write_run\n"
        "log = TrainLog(sys.argv[1], stream=sys.stdout)\n"
        "write_run(log, range(10, 10**9, 10))\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE) as process:
        process.stdout.read(20_000)
        process.send_signal(signal.SIGKILL)
    with TrainLog(path, 50) as log:
        write_run(log, range(60, 101, 10))
    assert path.read_text() == whole(tmp_path)
    assert parse_log(path).notes == ()


def test_full_disk_is_an_error(tmp_path, monkeypatch):
    log = TrainLog(tmp_path / "train.log")

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(train_log.os, "write", full)
    with pytest.raises(OSError, match="No space left on device"):
        log.write("one")
    monkeypatch.undo()
    log.close()


def test_full_disk_while_cutting_back_leaves_the_file(tmp_path, monkeypatch):
    path = tmp_path / "train.log"
    text = log_text(range(10, 41, 10))
    path.write_text(text)

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device"):
        TrainLog(path, 20)
    assert path.read_text() == text
    assert [file.name for file in tmp_path.iterdir()] == ["train.log"]


def test_kernel_that_takes_a_part_is_given_the_rest(tmp_path, monkeypatch):
    log = TrainLog(tmp_path / "train.log")
    write = os.write
    monkeypatch.setattr(train_log.os, "write", lambda file, data: write(file, data[:3]))
    log.write("a longer line")
    monkeypatch.undo()
    log.close()
    assert (tmp_path / "train.log").read_text() == "a longer line\n"


def test_stream_that_ends_does_not_stop_the_run(tmp_path):
    read, write = os.pipe()
    os.close(read)
    with TrainLog(tmp_path / "train.log", stream=open(write, "w", closefd=False)) as log:
        log.write("one")
        log.write("two")
    os.close(write)
    first, said, second = (tmp_path / "train.log").read_text().splitlines()
    assert (first, second) == ("one", "two")
    assert said.startswith("the output can't be written any more ([Errno 32]")


def test_letter_that_the_terminal_lacks_is_escaped_there(tmp_path):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    with TrainLog(tmp_path / "train.log", stream=stream) as log:
        log.write("数据")
    assert raw.getvalue() == b"\\u6570\\u636e\n"
    assert (tmp_path / "train.log").read_text("utf-8") == "数据\n"


def test_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        TrainLog(tmp_path / "none" / "train.log")
