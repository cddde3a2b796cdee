"""`scripts/compare_models.py`: the figures, the files, and what is said of what is wrong."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import torch_ref
from alignment.torch_side.shapes import shapes_only
from factseg_paddle import list_models
from factseg_paddle.data.images.palettes import ISAID_CLASSES
from factseg_proof.costs import measure as costs
from factseg_proof.costs import table as cost_table
from factseg_proof.costs.measure import Cost, CostError, Size, count, measure
from factseg_proof.costs.table import MarkdownTable, Published, Row, cost_figure, read_published
from scripts.compare_models import main
from tests.models.golden import ZOO, golden_networks
from tests.paths import REPO
from tests.scripts import small

LIGHT = "unet_bilinear_w32"
SMALL = ("--size", 64, "--repeats", 2)
GOLDEN = {network.name: network for network in golden_networks()}
GFLOP = {
    net["name"]: net["gflop512"] for net in json.loads((ZOO / "index.json").read_text())["nets"]
}


def run(*options):
    return main([str(option) for option in options])


def cells(line):
    return [cell.strip() for cell in line.strip("|\n").split("|")]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The folder after a run over two networks, and what was printed."""
    folder = tmp_path_factory.mktemp("compared")
    metrics = folder / "metrics.json"
    classes = [{"name": name} for name in ISAID_CLASSES]
    metrics.write_text(json.dumps({"mean_iou": 0.4321, "classes": classes}))
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("tqdm.tqdm.write", printed.append)
        names = ("--networks", LIGHT, "unet_transposed_w32")
        status = run(*names, *SMALL, "--metrics", f"{LIGHT}={metrics}", "--output", folder / "out")
    assert status == 0
    return folder / "out", printed


def test_the_table_holds_what_was_measured(compared):
    folder, printed = compared
    text = (folder / "table.md").read_text()
    content = json.loads((folder / "table.json").read_text())
    light, transposed = content["networks"]
    assert [line for line in text.splitlines() if line.startswith("| unet")] == printed
    assert (content["size"], content["num_classes"]) == (64, 16)
    assert f"threads: {content['threads']}, torch {torch.__version__}" in text

    assert light["parameters"] == GOLDEN["unet_article"].parameters[16]
    assert light["flops"] == count(LIGHT, 16, 64).flops
    assert light["our_miou"] == pytest.approx(43.21)
    assert light["published_miou"] is None
    assert transposed["our_miou"] is None
    assert transposed["published_miou"] == 39.20
    for network in (light, transposed):
        assert network["failure"] is None
        for framework in ("torch", "paddle"):
            assert 1 <= len(network[framework]["passes"]) <= 2
            assert network[framework]["seconds"] > 0
            # at least the weights
            assert network[framework]["memory_bytes"] > 4 * network["parameters"]

    shown = cells(printed[0])
    assert shown[:2] == [LIGHT, "4.32"]
    assert float(shown[5]) == pytest.approx(
        light["paddle"]["seconds"] / light["torch"]["seconds"], abs=0.005
    )
    assert shown[8:] == ["–", "43.21"]
    assert cells(printed[1])[8:] == ["39.20 [a]", "–"]
    assert "\n- [a] Ma et al." in text


def test_the_picture_is_there(compared):
    folder, _ = compared
    assert (folder / "miou.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in folder.iterdir()} == {"table.md", "table.json", "miou.png"}


@pytest.fixture
def unmeasured(monkeypatch):
    """Nothing is run: times and memory are made up."""
    cost = Cost((0.25, 0.125, 0.5), 7_000_000)
    made_up = {"torch": cost, "paddle": Cost((0.5,), 14_000_000)}
    monkeypatch.setattr("factseg_proof.costs.cli.measure", lambda *_, **__: made_up)


@pytest.mark.usefixtures("unmeasured")
def test_without_any_miou_there_is_no_picture_and_an_older_one_goes(tmp_path, capsys):
    (tmp_path / "miou.png").touch()
    assert run("--networks", LIGHT, *SMALL, "--output", tmp_path) == 0
    out = capsys.readouterr().out.splitlines()
    assert cells(out[2])[3:8] == ["250", "500", "2.00", "7", "14"]
    assert out[-1] == "no picture: no network here has a known mIoU"
    assert not (tmp_path / "miou.png").exists()


@pytest.mark.usefixtures("unmeasured")
def test_without_names_all_networks_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr("factseg_proof.costs.cli.count", lambda *_: Size(10**6, 10**9))
    assert run("--output", tmp_path) == 0
    content = json.loads((tmp_path / "table.json").read_text())
    assert [network["name"] for network in content["networks"]] == list_models()
    assert (content["size"], content["num_classes"]) == (512, 16)


@pytest.mark.usefixtures("unmeasured")
def test_a_network_that_fails_has_a_line_that_says_so(tmp_path, capsys):
    names = ("--networks", "factseg_resnet18", LIGHT)
    assert run(*names, "--size", 60, "--output", tmp_path) == 1
    failed, fine = capsys.readouterr().out.splitlines()[2:4]
    assert "failed: height 60 is not divisible by 32; use 32 or 64" in failed
    assert cells(fine)[3] == "250"
    networks = json.loads((tmp_path / "table.json").read_text())["networks"]
    assert networks[0]["failure"] == "height 60 is not divisible by 32; use 32 or 64"
    assert "torch" not in networks[0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--networks", "unet_biliner"], "did you mean unet_bilinear or"),
        (["--networks", LIGHT, "--metrics", "farseg_resnet50={file}"], "network of --metrics"),
        (["--networks", LIGHT, "--metrics", f"{LIGHT}={{file}}x"], "No such file"),
        (["--networks", LIGHT, "--metrics", f"{LIGHT}={{file}}"], "is no metrics.json"),
    ],
)
def test_what_cannot_start_is_one_sentence_and_writes_nothing(tmp_path, capsys, options, sentence):
    broken = tmp_path / "metrics.json"
    broken.write_text('{"mean_iou": 0.4')
    output = tmp_path / "output"
    assert run(*[option.format(file=broken) for option in options], "--output", output) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert not said.out
    assert not output.exists()


@pytest.mark.parametrize(
    "option",
    ["--metrics=unet.json", "--repeats=0", "--metrics=unet=", "--seconds=0", "--seconds=nan"],
)
def test_an_option_that_is_wrong_is_one_sentence(capsys, option):
    with pytest.raises(SystemExit) as stop:
        run(option)
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("content", ["[]", '{"miou": 0.5}', '{"mean_iou": null}', "{", "43.2"])
def test_a_broken_metrics_file_is_refused(tmp_path, content):
    path = tmp_path / "metrics.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"metrics\.json"):
        cost_table.read_miou(path)


def test_metrics_of_other_data_are_refused(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"mean_iou": 0.5, "classes": [{"name": "aeroplane"}]}))
    with pytest.raises(ValueError, match="its classes are aeroplane, not iSAID's"):
        cost_table.read_miou(path)


def test_a_list_of_thread_numbers_costs_no_run(tmp_path, monkeypatch, unmeasured):  # noqa: ARG001
    monkeypatch.setenv("OMP_NUM_THREADS", "1,1")
    assert run("--networks", LIGHT, *SMALL, "--output", tmp_path) == 0
    assert "threads: 1,1" in (tmp_path / "table.md").read_text()


def test_torch_is_needed_and_that_is_one_sentence(tmp_path):
    done = small.without("torch", "scripts.compare_models", "--output", tmp_path / "output")
    assert done.returncode == 2
    assert re.fullmatch(r"compare_models.py: .*torch.*\n", done.stderr)
    assert not (tmp_path / "output").exists()


# What is measured ------------------------------------------------------------------------------


@pytest.mark.parametrize("golden", GOLDEN.values(), ids=GOLDEN)
def test_flops_are_those_of_the_reference(golden):
    size = count(golden.model, golden.num_classes, 512)
    assert size.parameters == golden.parameters[golden.num_classes]
    gflop = size.flops / 1e9
    if gflop != pytest.approx(GFLOP[golden.name], rel=1e-3):
        # the reference runs its auxiliary head in evaluation too
        gflop = _training_gflop(golden.model, golden.num_classes)
    assert gflop == pytest.approx(GFLOP[golden.name], rel=3e-3)


def _training_gflop(name, num_classes):
    """Of one of two images: BatchNorm of a pooled image needs two."""
    with shapes_only():
        network = torch_ref.create_model(name, num_classes)
        images = torch.empty(2, 3, 512, 512)
    with FlopCounterMode(display=False) as counter:
        network(images)
    return counter.get_total_flops() / 2 / 1e9


def test_passes_end_after_enough_seconds():
    found = measure(LIGHT, 16, 32, repeats=50, seconds=0.0001)
    assert [len(cost.seconds) for cost in found.values()] == [1, 1]


def test_a_framework_that_fails_is_named():
    with pytest.raises(CostError, match=r"torch: ValueError: network 'unet' is not known"):
        measure("unet", 16, 32, repeats=1, seconds=1)


def test_a_process_that_is_killed_is_an_error():
    with costs._Side("torch", LIGHT, 16, 32) as side:
        side.answer()
        side._process.kill()
        side._process.join()
        with pytest.raises(CostError, match="torch: the process ended with -9"):
            side.run()


# What was published ----------------------------------------------------------------------------


def test_published_figures_belong_to_known_networks_and_have_a_source():
    published = read_published()
    assert published.keys() <= set(list_models())
    assert published["factseg_resnet50"].miou == 64.80
    assert all(0 < one.miou < 100 and len(one.source) > 20 for one in published.values())


def test_sources_get_a_letter_each_in_order():
    published = {"one": Published(50, "A"), "two": Published(60, "B"), "three": Published(7, "A")}
    table = MarkdownTable(["two", "three", "four"], published)
    assert table.sources() == ["- [a] B", "- [b] A"]
    assert cells(table.line(Row("three", published=published["three"])))[8] == "7.00 [b]"


def test_names_in_the_picture_do_not_cover_each_other():
    rows = [Row(f"network_{i}", Size(1, 10**11), None, Published(60, ""), 60.1) for i in range(6)]
    figure = cost_figure(rows)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) == 12
    assert all(not box.count_overlaps(boxes[i + 1 :]) for i, box in enumerate(boxes))


def test_table_of_the_page_has_the_networks():
    """But those that were added since: times compare within one run alone."""
    text = (REPO / "docs" / "networks.md").read_text(encoding="utf-8")
    table = text.partition(cost_table.BEGIN)[2].partition(cost_table.END)[0]
    names = [cells(line)[0] for line in table.splitlines() if line.startswith("| ")]
    assert names[2:] == [name for name in list_models() if name in names]
    assert set(names) >= read_published().keys()
