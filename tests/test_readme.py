"""The pages' commands and examples: each is run here in a fast form, and leaves no stray files.

Those of `docs/align-your-pair.md` and of the README's own pair run as they stand, in
`tests/test_own_pair.py`; those of `docs/add-a-network.md` in `tests/test_contributing.py`.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import yaml

from tests.page_commands import ELSEWHERE, FAST, SLOW
from tests.pages import ADD_A_NETWORK, OWN_PAIR, PAGES, README, blocks, commands, read, run, tree
from tests.paths import REPO

pytestmark = pytest.mark.timeout(600)  # starts whole runs

RUN_AS_THEY_STAND = ("alignment --pair my_pair.py:make_pair --out report",)
"""Commands of the README that `tests/test_own_pair.py` runs."""

LINES_OF_THE_README = 150


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder that holds what the commands read, and one in which installed commands run."""
    import torch

    from factseg_paddle.data.synthetic.scenes import make_sample_dataset
    from factseg_paddle.engine.weights import model_arrays
    from factseg_paddle.io import save_pdparams
    from factseg_paddle.models import create_model
    from tests.factseg_paddle.data.layouts.voc_files import write_voc
    from torch_ref.models.backbones import resnet18

    tmp = tmp_path_factory.mktemp("pages")
    (tmp / "anywhere").mkdir()
    make_sample_dataset(tmp / "data", images=2, size=64, seed=0)
    write_voc(tmp / "voc")
    torch.save(resnet18(num_classes=1000).state_dict(), tmp / "resnet18.pth")
    network = create_model("factseg_resnet18", num_classes=16)
    save_pdparams(tmp / "factseg.pdparams", model_arrays(network))
    # Without arguments the script works on the weights/ of its own repository: a copy of it.
    packages = {file.parent for file in REPO.glob("*/__init__.py")} - {REPO / "tests"}
    for folder in (*packages, REPO / "scripts"):
        shutil.copytree(folder, tmp / "copy" / folder.name)
    (tmp / "copy" / "weights").mkdir()
    for name in ("resnet18.pth", "factseg.pdparams"):
        shutil.copy(tmp / name, tmp / "copy" / "weights")
    image = next((tmp / "data" / "val" / "images" / "images").iterdir())
    mask = tmp / "data" / "val" / "masks" / "images" / f"{image.stem}_instance_color_RGB.png"
    return {"tmp": tmp, "repo": REPO, "image": image, "mask": mask}


def test_readme_is_read_in_a_minute():
    assert len(read(README).splitlines()) <= LINES_OF_THE_README


def test_every_command_of_the_pages_is_known_here():
    pages = [page for page in PAGES if page not in (OWN_PAIR, ADD_A_NETWORK)]
    found = {command for page in pages for command in commands(read(page))}
    assert found == {*FAST, *ELSEWHERE, *RUN_AS_THEY_STAND}
    assert set(SLOW) <= set(FAST)


@pytest.mark.parametrize(("command", "file"), ELSEWHERE.items())
def test_what_is_not_run_here_is_run_or_declared_elsewhere(command, file):
    text = read(file)
    if command.startswith("make"):
        assert command in text.splitlines()
    elif "-r" in command:
        assert command.removeprefix("pip install ") in text
    else:
        extras = command.partition("[")[2].partition("]")[0].split(",")
        assert all(f"\n{extra} = [" in text for extra in extras)


@pytest.mark.parametrize(
    "command",
    [pytest.param(c, marks=pytest.mark.slow if c in SLOW else ()) for c in FAST],
)
def test_command_runs(command, places):
    if "pictures.py" in command and shutil.which("chromium") is None:
        pytest.skip("pictures are taken with chromium, which is not installed")
    before = tree()
    fast = FAST[command]
    for one in (fast,) if isinstance(fast, str) else fast:
        folder = REPO if one.startswith("python") else places["tmp"] / "anywhere"
        # A benchmark at toy size may miss its target: its answer is "no", not a failure to run.
        done = run(one.format(**places), folder, status=(0, 1) if "bench" in one else (0,))
        assert done.stdout.strip()
    assert tree() == before


def example(page: str, index: int) -> dict:
    """The names that a page's Python block leaves, its sizes made small."""
    names: dict = {}
    text = blocks("python", read(page))[index].replace("512", "64")
    exec(compile(text, page, "exec"), names)
    return names


@pytest.mark.parametrize(("page", "index"), [(README, 1), ("docs/networks.md", 0)])
def test_example_of_factseg_gives_what_its_comments_say(page, index, capsys):
    names = example(page, index)
    assert tuple(names["probability"].shape) == (1, 16, 64, 64)
    assert np.allclose(names["probability"].sum(axis=1).numpy(), 1, atol=1e-6)
    assert names["loss"].item() > 0
    assert not capsys.readouterr().err


def test_example_of_other_networks_makes_one(capsys):
    names = example("docs/networks.md", 1)
    assert "unet_bilinear_w32" in capsys.readouterr().out
    assert names["net"].parameters()


def test_example_of_metrics_counts_as_its_comment_says(capsys):
    names = example("docs/evaluate-predict.md", 0)
    assert names["metrics"].class_iou.tolist() == [1, 0.5, 0]
    assert "0.5" in capsys.readouterr().out


def test_every_python_block_is_run_by_some_test():
    count = {page: len(blocks("python", read(page))) for page in PAGES}
    assert {page: n for page, n in count.items() if n} == {
        README: 2,
        OWN_PAIR: 6,
        ADD_A_NETWORK: 1,
        "docs/networks.md": 2,
        "docs/evaluate-predict.md": 1,
    }


@pytest.mark.parametrize("index", range(2))
def test_configurations_of_the_data_page_are_valid(index):
    from factseg_paddle.config.loading import make_config

    page = "docs/data.md"
    text = blocks("yaml", read(page))
    assert len(text) == 2
    assert make_config(yaml.safe_load(text[index]), page).data.num_classes in (2, 21)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "python -m alignment --out {tmp}/slow",
        "python alignment/05_backward.py --out {tmp}/slow",
        "python -m alignment --steps forward backward --seed 7 --out {tmp}/slow",
        "python scripts/bench_losses.py",
        "python scripts/bench_metrics.py",
        "python scripts/make_sample_data.py --output {tmp}/sample8 --images 8 --size 512 --seed 0",
    ],
)
def test_slow_command_as_it_stands(command, places):
    run(command.format(**places), REPO)
