"""Pictures of logs: what is in them, and what the script says."""

import errno
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factseg_paddle.engine.logs import curves
from factseg_paddle.engine.logs.curves import (
    COLOURS,
    curves_figure,
    gather_runs,
    save_curves,
    smoothed,
)
from factseg_paddle.engine.logs.format import EvaluationRecord, RunLog, parse_log
from scripts import plot_curves
from tests.factseg_paddle.engine.logs.lines import class_iou, line, log_text
from tests.paths import REPO

main = plot_curves.main


@pytest.fixture
def log_of(tmp_path):
    """A function that writes the log of a run and gives its path."""

    def write(name="one", classes=3, iterations=range(10, 101, 10)) -> Path:
        path = tmp_path / name / "train.log"
        path.parent.mkdir()
        path.write_text(log_text(iterations, classes=classes))
        return path

    return write


def panels(figure) -> dict:
    """{title: axes} of the panels that show something."""
    return {ax.get_title(loc="left"): ax for ax in figure.axes if ax.axison}


def data(axes) -> list[np.ndarray]:
    return [drawn.get_xydata() for drawn in axes.get_lines()]


# Runs -----------------------------------------------------------------------------------------


def test_label_is_the_folder_of_a_train_log_or_the_name_of_another_file():
    logs = [RunLog(Path("/a/run/train.log"), (line(1),), ()), RunLog(Path("b.txt"), (line(1),), ())]
    assert [run.label for run in gather_runs(logs)] == ["run", "b"]


def test_logs_of_one_label_are_one_run():
    train = RunLog(Path("t"), (line(1),), ())
    evaluation = RunLog(Path("e"), (), (EvaluationRecord(1, 0.5, (0.5,)),))
    (run,) = gather_runs([train, evaluation], ["r", "r"])
    assert (run.train, run.evaluations) == (train.train, evaluation.evaluations)
    assert str(run) == "r 1 training lines, 1 evaluations, best mIoU 0.5000 at 1"


def test_two_training_logs_of_one_label_are_refused():
    log = RunLog(Path("r/train.log"), (line(1),), ())
    with pytest.raises(ValueError, match="two logs are called r; tell them apart by --labels"):
        gather_runs([log, log])


def test_labels_are_as_many_as_logs():
    with pytest.raises(ValueError, match="1 labels for 2 logs"):
        gather_runs([RunLog(Path("a"), (), ()), RunLog(Path("b"), (), ())], ["a"])


def test_best_is_the_first_of_the_highest_and_nan_is_none():
    records = [EvaluationRecord(n, iou, ()) for n, iou in enumerate((math.nan, 0.5, 0.6, 0.6))]
    assert curves.Run("", (), tuple(records)).best.iteration == 2
    assert curves.Run("", (), tuple(records[:1])).best is None


# Smoothing ------------------------------------------------------------------------------------


@given(
    values=st.lists(st.floats(-1e3, 1e3) | st.just(math.nan) | st.just(math.inf), max_size=40),
    half=st.integers(0, 20),
)
def test_smoothed_is_the_mean_of_what_is_finite_around(values, half):
    ours = smoothed(np.array(values, dtype=np.float64), 2 * half + 1)
    for place, value in enumerate(ours):
        around = [v for v in values[max(0, place - half) : place + half + 1] if math.isfinite(v)]
        expected = sum(around) / len(around) if around else math.nan
        assert value == pytest.approx(expected, abs=1e-9, nan_ok=True)


# The picture ----------------------------------------------------------------------------------


def test_picture_shows_the_values_of_the_log(log_of):
    log = parse_log(log_of())
    figure = curves_figure(gather_runs([log]), ["background", "ship", "plane"])
    shown = panels(figure)
    assert list(shown) == [
        "loss", "learning rate", "mIoU (star: the best)", "0 background", "1 ship", "2 plane",
    ]  # fmt: skip
    (loss,) = data(shown["loss"])
    np.testing.assert_array_equal(loss, [(one.iteration, one.loss) for one in log.train])
    (rate,) = data(shown["learning rate"])
    np.testing.assert_array_equal(rate, [(one.iteration, one.lr) for one in log.train])
    mean, star = data(shown["mIoU (star: the best)"])
    np.testing.assert_array_equal(mean, [(e.iteration, e.mean_iou) for e in log.evaluations])
    np.testing.assert_array_equal(star, [(100, log.evaluations[-1].mean_iou)])
    for index, name in enumerate(("0 background", "1 ship", "2 plane")):
        (drawn,) = data(shown[name])
        expected = [(n, class_iou(n)[index]) for n in (20, 40, 60, 80, 100)]
        np.testing.assert_allclose(drawn, expected, rtol=1e-6)


def test_long_log_is_smoothed_over_what_was_logged(log_of):
    log = parse_log(log_of(iterations=range(1, 101)))
    ax = panels(curves_figure(gather_runs([log])))["loss (pale: as logged, strong: moving mean)"]
    raw, mean = data(ax)
    np.testing.assert_array_equal(raw[:, 1], [one.loss for one in log.train])
    np.testing.assert_array_equal(mean[:, 1], smoothed(raw[:, 1], 5))
    assert [drawn.get_alpha() for drawn in ax.get_lines()] == [0.3, None]


def test_every_run_has_a_colour_and_its_result_in_the_legend(log_of):
    runs = gather_runs([parse_log(log_of(f"run {n}")) for n in range(9)])
    figure = curves_figure(runs)
    drawn = panels(figure)["class 1"].get_lines()
    looks = {(one.get_color(), str(one.get_linestyle())) for one in drawn}
    assert (len(drawn), len(looks)) == (9, 9)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) == 9
    assert texts[3].endswith("run 3: best mIoU 0.9074 at 100")


def luminance(colour: str) -> float:
    red, green, blue = (int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))
    return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2


def test_colours_stand_out_from_white_and_are_told_apart_without_red_or_green():
    """Contrast of 2 and more to white; seen by a deuteranope (red and green mixed) all differ."""
    assert all(1.05 / (luminance(colour) + 0.05) > 2 for colour in COLOURS)
    seen = [
        np.array([0.625 * r + 0.375 * g, 0.7 * r + 0.3 * g, 0.3 * g + 0.7 * b])
        for r, g, b in ([int(c[n : n + 2], 16) for n in (1, 3, 5)] for c in COLOURS)
    ]
    apart = [np.abs(a - b).max() for i, a in enumerate(seen) for b in seen[:i]]
    assert min(apart) > 25


def test_panels_without_values_are_left_out():
    train = RunLog(Path("t"), (line(1), line(2)), ())
    assert list(panels(curves_figure(gather_runs([train])))) == ["loss", "learning rate"]
    evaluations = RunLog(Path("e"), (), (EvaluationRecord(1, 0.5, (0.4, 0.6)),))
    assert list(panels(curves_figure(gather_runs([evaluations])))) == [
        "mIoU (star: the best)", "class 0", "class 1",
    ]  # fmt: skip


def test_class_that_is_in_no_evaluation_is_said_to_be_absent():
    records = (EvaluationRecord(1, 0.4, (0.4, math.nan)),)
    shown = panels(curves_figure([curves.Run("r", (), records)]))
    assert [[t.get_text() for t in shown[f"class {n}"].texts] for n in (0, 1)] == [[], ["absent"]]


def test_runs_of_different_numbers_of_classes_share_a_picture(log_of, tmp_path):
    logs = [parse_log(log_of("few", classes=2)), parse_log(log_of("many", classes=10))]
    figure = curves_figure(gather_runs(logs))
    save_curves(figure, tmp_path / "a.png")
    assert np.isnan(data(panels(figure)["class 9"])[0][:, 1]).all()


@pytest.mark.filterwarnings("error")
def test_odd_labels_and_values_are_drawn_without_a_warning(tmp_path):
    losses = [math.nan, math.inf, 0.0, 1.0] * 8
    train = tuple(line(n + 1, loss=loss) for n, loss in enumerate(losses))
    records = (EvaluationRecord(1, math.nan, (math.nan, math.nan)),)
    labels = ["_hidden", "$x^2", "三号", "a\nb\t", "x" * 99]
    figure = curves_figure([curves.Run(label, train, records) for label in labels], ["$a_", "二"])
    for suffix in curves.FORMATS:
        save_curves(figure, tmp_path / f"a{suffix}")
    texts = [text.get_text().strip("\u200b") for text in figure.legends[0].get_texts()]
    assert texts[:2] == ["_hidden", "$x^2"]
    assert texts[3] == "a?b?"
    assert len(texts[4]) == 40


def test_class_names_are_as_many_as_classes(log_of):
    runs = gather_runs([parse_log(log_of())])
    with pytest.raises(ValueError, match="2 class names for 3 classes in the logs"):
        curves_figure(runs, ["a", "b"])


def test_pyplot_is_left_alone(log_of, tmp_path):
    code = (
        "import sys\nfrom factseg_paddle.engine.logs.curves import *\n"
        "from factseg_paddle.engine.logs.format import parse_log\n"
        f"save_curves(curves_figure(gather_runs([parse_log({str(log_of())!r})])), sys.argv[1])\n"
        "sys.exit(any(m in sys.modules for m in ('matplotlib.pyplot', 'paddle', 'torch')))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], cwd=REPO, check=True)


def test_full_disk_leaves_the_older_picture(log_of, tmp_path, monkeypatch):
    figure = curves_figure(gather_runs([parse_log(log_of())]))
    path = tmp_path / "a.png"
    path.write_bytes(b"older")

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(figure, "savefig", full)
    with pytest.raises(OSError, match="No space left"):
        save_curves(figure, path)
    assert path.read_bytes() == b"older"
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", "one"}


# The script -----------------------------------------------------------------------------------


def test_script_draws_logs_and_says_what_it_drew(log_of, tmp_path, capsys):
    output = tmp_path / "c.png"
    assert main([str(log_of("one")), str(log_of("two")), "--output", str(output)]) == 0
    said = capsys.readouterr()
    assert said.out == (
        f"{output}: one 10 training lines, 5 evaluations, best mIoU 0.9074 at 100; "
        "two 10 training lines, 5 evaluations, best mIoU 0.9074 at 100\n"
    )
    assert said.err == ""
    assert output.read_bytes().startswith(b"\x89PNG")


def test_script_says_what_a_kill_has_cut_off(log_of, tmp_path, capsys):
    path = log_of()
    path.write_text(path.read_text()[:-30])
    assert main([str(path), "--output", str(tmp_path / "c.svg")]) == 0
    assert "the table of iteration 100 is cut short and was left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.log"], "the log none.log can't be read: No such file"),
        (["LOG", "--output", "a.jpg"], "a.jpg: pictures are written as .png, .svg, .pdf"),
        (["LOG", "--output", "/none/a.png"], "cannot write /none/a.png: the folder /none does not"),
        (["LOG", "LOG"], "two logs are called one; tell them apart by --labels"),
        (["LOG", "--labels", "a", "b"], "2 labels for 1 logs"),
        (["LOG", "--class_names", "isaid"], "16 class names for 3 classes in the logs"),
        (["BAD"], "is no log of a training run: it has no [TRAIN] line"),
    ],
)
def test_script_that_can_not_draw_says_why_and_leaves_with_2(
    arguments, message, log_of, tmp_path, capsys
):
    (tmp_path / "bad.txt").write_text("hello\n")
    names = {"LOG": str(log_of()), "BAD": str(tmp_path / "bad.txt")}
    output = [] if "--output" in arguments else ["--output", str(tmp_path / "c.png")]
    assert main([names.get(word, word) for word in arguments] + output) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert not (tmp_path / "c.png").exists()


def test_script_without_logs_leaves_with_2():
    command = [sys.executable, str(REPO / "scripts/plot_curves.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "plot_curves.py: the following arguments are required: LOG; see --help\n"
    )


def test_script_draws_the_published_logs(shared_data, tmp_path, capsys):
    logs = [str(shared_data(f"factseg_logs/Log_{kind}_log.txt")) for kind in ("train", "eval")]
    output = str(tmp_path / "c.png")
    labels = ["--labels", "published", "published", "--class_names", "isaid"]
    assert main([*logs, *labels, "--output", output]) == 0
    assert capsys.readouterr().out.endswith(
        "published 1200 training lines, 12 evaluations, best mIoU 0.6452 at 50000\n"
    )
