"""Progress on a terminal: counts on stderr, lines where they belong."""

from __future__ import annotations

import sys

from factseg_paddle.commands.progress_bar import ProgressBar
from factseg_paddle.progress import NO_PROGRESS, Progress


def report(progress: Progress) -> None:
    progress.log("two files")
    for name, count in (("a.png", 2), ("b.png", 3)):
        progress.start(count, name)
        for _ in range(count):
            progress.advance()
        progress.log(f"{name} is done")


def test_lines_and_counts_are_shown_on_stderr(capsys):
    with ProgressBar("window") as progress:
        report(progress)
    shown = capsys.readouterr()
    lines = [line.split("\r")[-1] for line in shown.err.splitlines()]
    assert [line for line in lines if line in ("two files", "a.png is done", "b.png is done")] == [
        "two files",
        "a.png is done",
        "b.png is done",
    ]
    assert "b.png: 100%" in lines[-1]
    assert "3/3" in lines[-1]
    assert "window" in lines[-1]
    assert not shown.out


def test_lines_may_go_to_stdout_and_the_bar_does_not_follow(capsys):
    with ProgressBar("pair", log_to=sys.stdout) as progress:
        report(progress)
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["two files", "a.png is done", "b.png is done"]
    assert "is done" not in shown.err


def test_work_without_a_count_shows_no_bar(capsys):
    with ProgressBar("pair") as progress:
        progress.advance()
        progress.log("nothing to do")
    assert capsys.readouterr().err == "nothing to do\n"


def test_nobody_is_told_by_default(capsys):
    report(NO_PROGRESS)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")
