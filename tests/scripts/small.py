"""Sample data and weights for the command lines, with a network of a few numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

from factseg_paddle.config.loading import as_plain, load_config
from factseg_paddle.data.synthetic.scenes import make_sample_dataset
from factseg_paddle.engine.weights import model_arrays
from factseg_paddle.io import save_pdparams
from tests.factseg_paddle.engine.tiny import seeded
from tests.paths import REPO

CLASSES = 16


def network(*_):
    """In the place of `build_model`."""
    return seeded(3, num_classes=CLASSES)


def make_sample(folder: Path) -> Path:
    """Two validation images of 96 x 96; their folder."""
    make_sample_dataset(folder, images=8, size=96, seed=0)
    return folder


def write_config(path: Path, dataset_root: Path) -> Path:
    values = {
        "device": "cpu",
        "data": {"dataset_root": str(dataset_root), "transforms": [{"name": "normalize"}]},
        "eval": {"patch_size": 64, "stride": 48},
    }
    path.write_text(yaml.safe_dump(values))
    return path


def write_weights(path: Path, *, seed: int = 5, num_classes: int = CLASSES) -> Path:
    save_pdparams(path, model_arrays(seeded(seed, num_classes=num_classes)))
    return path


def write_checkpoint(folder: Path, config: Path) -> Path:
    """A folder as training leaves it, as far as evaluation looks at it."""
    folder.mkdir(parents=True)
    write_weights(folder / "model.pdparams")
    state = {"iteration": 5, "config": as_plain(load_config(config))}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {blocked!r}:
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Block())
sys.path.insert(0, {root!r})
import importlib
main = importlib.import_module({script!r}).main
{setup}
status = main(sys.argv[1:])
assert {blocked!r} not in sys.modules
sys.exit(status)
"""

WITH_SMALL_NETWORK = """
import factseg_paddle.engine.restore as restore
from tests.scripts.small import network
restore.build_model = network
"""


def without(framework: str, script: str, *options: object, setup: str = "", folder: Path = REPO):
    """A script in a process that can't import a framework."""
    code = BLOCKED.format(blocked=framework, root=str(REPO), script=script, setup=setup)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, options)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
    )


def stopped_in_the_middle(script: str, folder: Path, *options: object) -> tuple[int, str]:
    """Status and stderr of a script told to stop by SIGTERM while it writes into a folder."""
    code = BLOCKED.format(blocked="torch", root=str(REPO), script=script, setup=WITH_SMALL_NETWORK)
    # windows without end
    words = [*options, "--opts", "eval.stride=1", "eval.batch_size=1"]
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while process.poll() is None and not any(folder.glob(".*.tmp.png")):
            time.sleep(0.01)
        process.terminate()
        said = process.stderr.read()
    return process.returncode, said
