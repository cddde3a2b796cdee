"""The README's commands: each is run here in a fast form, or by CI, and leaves no stray files.

Those under "Align your own pair" run as they stand, in `tests/test_own_pair.py`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.paths import REPO

pytestmark = pytest.mark.timeout(600)  # starts whole runs

README = (REPO / "README.md").read_text(encoding="utf-8")
CI = (REPO / ".ci" / "run").read_text(encoding="utf-8")

# The README's command -> the same command in a form that takes seconds. {tmp} is a folder of the
# test's own. None: CI runs it as it stands, or (pip) through the Makefile. `make align` there has
# the default pair, FactSeg-50, and all steps; here a small one is enough.
SMALL = "--pair unet_bilinear_w32 --crop 32"
TRAIN = (
    "python scripts/train.py --config configs/quickstart.yml --iters 1 --log_iters 1 --opts "
    "data.dataset_root={tmp}/painted data.sample.images=8 data.sample.size=64 data.patch_size=64 "
    "data.stride=64 eval.patch_size=64 eval.stride=64 train.batch_size=2"
)
FAST = {
    "make align": None,
    "make test": None,
    "pip install -r requirements.txt": None,
    "python alignment/05_backward.py": f"python alignment/05_backward.py {SMALL} --out {{tmp}}/out",
    "python -m alignment": (
        f"python -m alignment {SMALL} --steps data weights forward --out {{tmp}}/out"
    ),
    "make faults": (
        "python -m factseg_proof.faults --only 'swapped labels' --crop 32 --backbone resnet18 "
        "--out {tmp}/faults"
    ),
    "make calibrate": (
        "python -m factseg_proof.calibration --seeds 0-0 --runs 1 --backbone resnet18 "
        "--out {tmp}/calibration"
    ),
    "python scripts/bench_alignment.py": (
        "python scripts/bench_alignment.py --crop 32 --train-steps 1 --backbone resnet18 "
        "--out {tmp}/bench"
    ),
    "python -m alignment --steps forward backward --seed 7": (
        f"python -m alignment --steps forward backward --seed 7 {SMALL} --out {{tmp}}/out"
    ),
    "python -m alignment --image IMAGE.png --mask MASK.png --crop 256": (
        "python -m alignment --image {image} --mask {mask} --pair factseg_resnet18 --crop 32 "
        "--steps data preprocess --out {tmp}/out"
    ),
    "make bench": (
        "python scripts/bench_losses.py --size 32 --batch 1 --repeats 1 --iterations 2",
        "python scripts/bench_metrics.py --repeats 1",
        "python scripts/bench_data.py --help",
    ),
    "python scripts/compare_models.py": (
        "python scripts/compare_models.py --networks unet_bilinear_w32 --size 64 --repeats 1 "
        "--output {tmp}/compared"
    ),
    "python scripts/convert_torch2paddle.py": "python {tmp}/copy/scripts/convert_torch2paddle.py",
    "python scripts/convert_torch2paddle.py --input weights/resnet50-19c8e357.pth": (
        "python scripts/convert_torch2paddle.py --input {tmp}/resnet18.pth"
    ),
    "python scripts/convert_paddle2torch.py --input weights/factseg.pdparams": (
        "python scripts/convert_paddle2torch.py --input {tmp}/factseg.pdparams"
    ),
    "python -m alignment --torch-weights weights/factseg.pth "
    "--paddle-weights weights/factseg.pdparams": (
        "python -m alignment --torch-weights {tmp}/factseg.pth --paddle-weights "
        "{tmp}/factseg.pdparams --pair factseg_resnet18 --crop 32 --steps weights --out {tmp}/out"
    ),
    "python scripts/make_sample_data.py --output output/sample --images 8 --size 512 --seed 0": (
        "python scripts/make_sample_data.py --output {tmp}/sample --images 2 --size 64 --seed 0"
    ),
    "pip install -r requirements-gpu.txt": None,
    "python scripts/train.py --config configs/quickstart.yml": f"{TRAIN} --save_dir {{tmp}}/run",
    "python scripts/evaluate.py --weights output/quickstart/best_model": (
        "python scripts/evaluate.py --weights {tmp}/run/best_model --output {tmp}/evaluation"
    ),
    "python scripts/predict.py --weights output/quickstart/best_model --input "
    "output/quickstart_data/val/images/images --output output/quickstart_predictions": (
        "python scripts/predict.py --weights {tmp}/run/best_model --input "
        "{tmp}/painted/val/images/images --output {tmp}/predicted"
    ),
    "python scripts/plot_curves.py output/quickstart/train.log --class_names isaid": (
        "python scripts/plot_curves.py {tmp}/run/train.log --class_names isaid "
        "--output {tmp}/curves.png"
    ),
    "python scripts/prepare_isaid.py --dataset_root data/isaid --check": (
        "python scripts/prepare_isaid.py --dataset_root {tmp}/painted --check --num_workers 0"
    ),
    "python scripts/prepare_isaid.py --dataset_root data/isaid --output data/isaid_prepared": (
        "python scripts/prepare_isaid.py --dataset_root {tmp}/painted --output {tmp}/prepared "
        "--num_workers 0"
    ),
    "python scripts/train.py --dataset_root data/isaid_prepared --amp --do_eval --use_vdl": (
        f"{TRAIN} --dataset_root {{tmp}}/prepared --save_dir {{tmp}}/amp --amp --do_eval --use_vdl"
    ),
    "python scripts/train.py --dataset_root data/isaid_prepared --amp --do_eval --use_vdl "
    "--resume": (
        f"{TRAIN} --dataset_root {{tmp}}/prepared --save_dir {{tmp}}/amp --amp --do_eval "
        "--use_vdl --resume"
    ),
    "python -m paddle.distributed.launch --nproc_per_node 2 scripts/train.py --dataset_root "
    "data/isaid_prepared --amp --do_eval": (
        f"python -m paddle.distributed.launch --log_dir {{tmp}}/launch --nproc_per_node 2 "
        f"{TRAIN.removeprefix('python ')} --dataset_root {{tmp}}/prepared --save_dir {{tmp}}/two"
    ),
    "python scripts/evaluate.py --config configs/factseg_r50_isaid.yml --weights "
    "output/factseg_r50_isaid/best_model --dataset_root data/isaid_prepared": (
        "python scripts/evaluate.py --config {tmp}/run/config.yml --weights {tmp}/run/best_model "
        "--dataset_root {tmp}/prepared --output {tmp}/evaluation_of_store"
    ),
    "python scripts/train.py --config configs/isaid/farseg_resnet50.yml --do_eval": (
        "python scripts/train.py --config configs/isaid/farseg_resnet50.yml --do_eval --iters 1 "
        "--batch_size 2 --num_workers 0 --dataset_root {tmp}/painted --save_dir {tmp}/farseg "
        "--opts model.pretrained=null data.patch_size=64 data.stride=64 train.amp.level=null "
        "data.transforms='[{{name: normalize}}]' eval.patch_size=64 eval.stride=64"
    ),
    "python scripts/train.py --config configs/voc/unet_bilinear_w32.yml --do_eval": (
        "python scripts/train.py --config configs/voc/unet_bilinear_w32.yml --do_eval --iters 1 "
        "--batch_size 2 --num_workers 0 --dataset_root {tmp}/voc --save_dir {tmp}/unet --opts "
        "data.patch_size=64 data.stride=64 data.transforms='[{{name: normalize}}, "
        "{{name: random_crop, size: 64}}]' eval.patch_size=96 eval.stride=96"
    ),
}

# Slow even in their fast forms: these are run by `make slow`. The suite plants faults of its own
# (tests/factseg_proof/faults/test_planted_faults.py).
HALF_A_MINUTE = ("make faults", "make calibrate", "python scripts/bench_alignment.py")


def commands(text: str = README) -> list[str]:
    """All lines of the bash blocks."""
    return [line for block in blocks("bash", text) for line in block.splitlines() if line]


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def section(title: str) -> str:
    """A chapter of the README."""
    return re.search(rf"^## {title}\n(.*?)(?=^## )", README, re.DOTALL | re.MULTILINE)[1]


OWN_PAIR = section("Align your own pair")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder that holds what the README's commands read."""
    import torch

    from factseg_paddle.data.synthetic.scenes import make_sample_dataset
    from factseg_paddle.engine.weights import model_arrays
    from factseg_paddle.io import save_pdparams
    from factseg_paddle.models import create_model
    from tests.factseg_paddle.data.layouts.voc_files import write_voc
    from torch_ref.models.backbones import resnet18

    tmp = tmp_path_factory.mktemp("readme")
    make_sample_dataset(tmp / "data", images=2, size=64, seed=0)
    write_voc(tmp / "voc")
    torch.save(resnet18(num_classes=1000).state_dict(), tmp / "resnet18.pth")
    network = create_model("factseg_resnet18", num_classes=16)
    save_pdparams(tmp / "factseg.pdparams", model_arrays(network))
    # Without arguments the script works on the weights/ of its own repository: a copy of it.
    for folder in ("alignment", "factseg_convert", "factseg_paddle", "torch_ref", "scripts"):
        shutil.copytree(REPO / folder, tmp / "copy" / folder)
    (tmp / "copy" / "weights").mkdir()
    shutil.copy(tmp / "resnet18.pth", tmp / "copy" / "weights")
    image = next((tmp / "data" / "val" / "images" / "images").iterdir())
    mask = tmp / "data" / "val" / "masks" / "images" / f"{image.stem}_instance_color_RGB.png"
    return {"tmp": tmp, "image": image, "mask": mask}


def run(command: str, places: dict) -> subprocess.CompletedProcess:
    words = [word.format(**places) for word in shlex.split(command)]
    assert words[0] == "python"
    words[0] = sys.executable
    return subprocess.run(
        words, cwd=REPO, env=os.environ, capture_output=True, text=True, check=False
    )


def tree() -> set[str]:
    listing = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(listing.stdout.splitlines())


def test_every_command_of_the_readme_is_known_here():
    assert set(commands()) == set(FAST) | set(commands(OWN_PAIR))


@pytest.mark.parametrize("command", [c for c, fast in FAST.items() if fast is None])
def test_ci_runs_what_is_not_run_here(command):
    if command.startswith("make"):
        assert command in CI.splitlines()
    else:
        makefile = (REPO / "Makefile").read_text(encoding="utf-8")
        file = command.split()[-1]
        assert f"-r {file}" in makefile or f"-r {file}" in (REPO / "requirements.txt").read_text()


# Some read what the one before wrote, as in the README.
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(c, marks=pytest.mark.slow if c in HALF_A_MINUTE else ())
        for c, fast in FAST.items()
        if fast is not None
    ],
)
def test_command_runs(command, places):
    before = tree()
    for fast in [FAST[command]] if isinstance(FAST[command], str) else FAST[command]:
        done = run(fast, places)
        # A benchmark at toy size may miss its target: its answer is "no", not a failure to run.
        allowed = (0, 1) if "bench" in fast else (0,)
        assert done.returncode in allowed, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout.strip()
    assert tree() == before


def test_python_example_of_the_network_runs(capsys):
    example = blocks("python", section("The network and its loss"))[0].replace("512", "64")
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    assert tuple(names["probability"].shape) == (1, 16, 64, 64)
    assert np.allclose(names["probability"].sum(axis=1).numpy(), 1, atol=1e-6)
    assert not capsys.readouterr().err


def test_links_and_paths_of_the_readme_exist():
    for path in re.findall(r"`([\w./]+/[\w./]*)`", README):
        if path.startswith(("output", "…")):
            continue
        assert (REPO / path).exists() or (REPO / "factseg_paddle" / path).exists(), path
    for script in re.findall(r"`(alignment/\d\d_\w+\.py)`", README):
        assert (REPO / script).exists(), script


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
    done = run(command, places)
    assert done.returncode == 0, done.stdout + done.stderr
