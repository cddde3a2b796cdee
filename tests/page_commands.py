"""The commands of the pages, each with a form of it that takes seconds.

`{tmp}` is a folder of the test's own. Commands run in the order of this table: some read what one
before them wrote, as on the pages.
"""

from __future__ import annotations

SMALL = "--pair unet_bilinear_w32 --crop 32"
"""A pair that aligns in seconds; the default one, FactSeg-50, takes minutes."""

PATCHES = "data.patch_size=64 data.stride=64 eval.patch_size=64 eval.stride=64"
PAINTED = "data.dataset_root={tmp}/painted data.sample.images=8 data.sample.size=64"
OPTIONS = f"--iters 1 --log_iters 1 --opts {PAINTED} {PATCHES} train.batch_size=2"
STORE = "--dataset_root {tmp}/prepared"
TRAIN = f"python scripts/train.py --config configs/quickstart.yml {OPTIONS}"

ELSEWHERE = {
    "make align": ".ci/run",
    "make test": ".ci/run",
    "pip install -r requirements.txt": "Makefile",
    "pip install -r requirements-gpu.txt": "requirements.txt",
    'pip install ".[align,paddle]"': "pyproject.toml",
    'pip install ".[seg,paddle]"': "pyproject.toml",
}
"""{command that is not run here: the file by which it is run or from which it is made}."""

FAST: dict[str, str | tuple[str, ...]] = {
    # Convert
    "factseg convert --input weights/resnet50-19c8e357.pth": (
        "factseg convert --input {tmp}/resnet18.pth"
    ),
    "factseg convert --input weights/factseg.pdparams": (
        "factseg convert --input {tmp}/factseg.pdparams"
    ),
    "python scripts/convert_torch2paddle.py": "python {tmp}/copy/scripts/convert_torch2paddle.py",
    "python scripts/convert_paddle2torch.py": "python {tmp}/copy/scripts/convert_paddle2torch.py",
    # Align
    "python alignment/05_backward.py": f"python alignment/05_backward.py {SMALL} --out {{tmp}}/out",
    "python -m alignment": (
        f"python -m alignment {SMALL} --steps data weights forward --out {{tmp}}/out"
    ),
    "python -m alignment --steps forward backward --seed 7": (
        f"python -m alignment --steps forward backward --seed 7 {SMALL} --out {{tmp}}/out"
    ),
    "python -m alignment --image IMAGE.png --mask MASK.png --crop 256": (
        "python -m alignment --image {image} --mask {mask} --pair factseg_resnet18 --crop 32 "
        "--steps data preprocess --out {tmp}/out"
    ),
    "python -m alignment --torch-weights weights/factseg.pth "
    "--paddle-weights weights/factseg.pdparams": (
        "python -m alignment --torch-weights {tmp}/factseg.pth --paddle-weights "
        "{tmp}/factseg.pdparams --pair factseg_resnet18 --crop 32 --steps weights --out {tmp}/out",
    ),
    # Measure
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
    "make bench": (
        "python scripts/bench_losses.py --size 32 --batch 1 --repeats 1 --iterations 2",
        "python scripts/bench_metrics.py --repeats 1",
        "python scripts/bench_data.py --help",
        "python scripts/bench_loading.py --help",
    ),
    "factseg compare": (
        "factseg compare --networks unet_bilinear_w32 --size 64 --repeats 1 --output {tmp}/compared"
    ),
    "python docs/tools/pictures.py": "python docs/tools/pictures.py",
    # A first run, installed: in a folder that is no checkout
    "factseg sample --output output/sample --images 8 --size 512 --seed 0": (
        "factseg sample --output output/sample --images 2 --size 64 --seed 0"
    ),
    "factseg train --config quickstart": (
        f"factseg train --config quickstart {OPTIONS} train.save_dir={{tmp}}/run"
    ),
    "factseg train --config configs/quickstart.yml --opts train.iters=400 "
    "optimizer.learning_rate=0.01": (
        f"factseg train --config {{repo}}/configs/quickstart.yml {OPTIONS} "
        "train.save_dir={tmp}/slower train.iters=1 optimizer.learning_rate=0.01"
    ),
    "factseg evaluate --weights output/quickstart/best_model": (
        "factseg evaluate --weights {tmp}/run/best_model --output {tmp}/evaluation"
    ),
    "factseg evaluate --weights output/quickstart/best_model --flip --scales 0.75 1.0 1.25": (
        "factseg evaluate --weights {tmp}/run/best_model --flip --scales 0.75 1.0 1.25 "
        "--output {tmp}/averaged"
    ),
    "factseg predict --weights output/quickstart/best_model --input "
    "output/quickstart_data/val/images/images": (
        "factseg predict --weights {tmp}/run/best_model --input {tmp}/painted/val/images/images "
        "--output {tmp}/predicted"
    ),
    "factseg predict --weights output/quickstart/best_model --input "
    "output/quickstart_data/val/images/images --output output/quickstart_predictions": (
        "factseg predict --weights {tmp}/run/best_model --input {tmp}/painted/val/images/images "
        "--output output/quickstart_predictions"
    ),
    "factseg curves output/quickstart/train.log --class_names isaid": (
        "factseg curves {tmp}/run/train.log --class_names isaid --output {tmp}/curves.png"
    ),
    "factseg prepare --dataset_root data/isaid --check": (
        "factseg prepare --dataset_root {tmp}/painted --check --num_workers 0"
    ),
    "factseg prepare --dataset_root data/isaid --output data/isaid_prepared": (
        "factseg prepare --dataset_root {tmp}/painted --output {tmp}/prepared --num_workers 0"
    ),
    # The published recipe, in a checkout
    "python scripts/prepare_isaid.py --dataset_root data/isaid --check": (
        "python scripts/prepare_isaid.py --dataset_root {tmp}/painted --check --num_workers 0"
    ),
    "python scripts/prepare_isaid.py --dataset_root data/isaid --output data/isaid_prepared": (
        "python scripts/prepare_isaid.py --dataset_root {tmp}/painted --output {tmp}/prepared_too "
        "--num_workers 0"
    ),
    "python scripts/train.py --dataset_root data/isaid_prepared --amp --do_eval --use_vdl": (
        f"{TRAIN} {STORE} --save_dir {{tmp}}/amp --amp --do_eval --use_vdl"
    ),
    "python scripts/train.py --dataset_root data/isaid_prepared --amp --do_eval --use_vdl "
    "--resume": f"{TRAIN} {STORE} --save_dir {{tmp}}/amp --amp --do_eval --use_vdl --resume",
    "python -m paddle.distributed.launch --nproc_per_node 2 scripts/train.py --dataset_root "
    "data/isaid_prepared --amp --do_eval": (
        f"python -m paddle.distributed.launch --log_dir {{tmp}}/launch --nproc_per_node 2 "
        f"{TRAIN.removeprefix('python ')} {STORE} --save_dir {{tmp}}/two"
    ),
    "python scripts/evaluate.py --config configs/factseg_r50_isaid.yml --weights "
    "output/factseg_r50_isaid/best_model --dataset_root data/isaid_prepared": (
        "python scripts/evaluate.py --config {tmp}/run/config.yml --weights {tmp}/run/best_model "
        f"{STORE} --output {{tmp}}/evaluation_of_store"
    ),
    # Other networks
    "factseg train --config isaid/farseg_resnet50 --do_eval": (
        "factseg train --config isaid/farseg_resnet50 --do_eval --iters 1 "
        "--batch_size 2 --num_workers 0 --dataset_root {tmp}/painted --save_dir {tmp}/farseg "
        f"--opts model.pretrained=null train.amp.level=null {PATCHES} "
        "data.transforms='[{{name: normalize}}]'"
    ),
    "factseg train --config voc/unet_bilinear_w32 --do_eval": (
        "factseg train --config voc/unet_bilinear_w32 --do_eval --iters 1 "
        "--batch_size 2 --num_workers 0 --dataset_root {tmp}/voc --save_dir {tmp}/unet --opts "
        "data.patch_size=64 data.stride=64 data.transforms='[{{name: normalize}}, "
        "{{name: random_crop, size: 64}}]' eval.patch_size=96 eval.stride=96"
    ),
}

SLOW = (
    # Half a minute each even in these forms. The suite plants faults of its own.
    "make faults",
    "make calibrate",
    "python scripts/bench_alignment.py",
    "python docs/tools/pictures.py",
    # The same functions as of other commands above.
    "python scripts/prepare_isaid.py --dataset_root data/isaid --check",
    "python scripts/prepare_isaid.py --dataset_root data/isaid --output data/isaid_prepared",
    "factseg train --config configs/quickstart.yml --opts train.iters=400 "
    "optimizer.learning_rate=0.01",
    "python -m alignment --steps forward backward --seed 7",
)
"""Those that `make slow` runs, and `make test` does not."""
