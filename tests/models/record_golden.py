"""Record what a reference implementation of a network computes, for `tests/golden/zoo`.

    python -m tests.models.record_golden NAME MODULE:FUNCTION --source "owner/name@commit"

FUNCTION of (num_classes) gives the reference as a torch module that maps images [N, 3, H, W] to
logits before softmax. It must be importable; its code does not become part of this repository.
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from alignment.torch_side.shapes import shapes_only
from factseg_paddle.files import atomic_write_all
from tests.models.golden import ZOO, image, picked_indices, weight


def record(name: str, build: Callable[[int], torch.nn.Module], source: str, classes: int) -> None:
    """Add the network to the index and write its logits' file."""
    model = build(classes).double().eval()
    state = model.state_dict()
    tensors = [(n, list(t.shape)) for n, t in state.items() if not n.endswith("_tracked")]
    values = {n: torch.from_numpy(weight(n, shape)) for n, shape in tensors if shape}
    model.load_state_dict(values, strict=False)
    with torch.no_grad():
        logits = model(torch.from_numpy(image())).numpy()
    entry = {"name": name, "source": source, "num_classes": classes, "tensors": len(tensors)}
    for count in 16, 21:
        entry[f"params{count}"] = sum(p.numel() for p in build(count).parameters())
    entry["gflop512"] = _flops(build, classes) / 1e9
    index = json.loads((ZOO / "index.json").read_text())
    index["nets"] = [*(net for net in index["nets"] if net["name"] != name), entry]
    with atomic_write_all(ZOO / f"{name}.npz", ZOO / "index.json") as (logits_file, index_file):
        with logits_file.open("wb") as file:
            np.savez(
                file,
                logits=logits.ravel()[picked_indices(logits.size)],
                out_shape=logits.shape,
                absmax=np.abs(logits).max(),
                names_json=json.dumps(tensors),
            )
        index_file.write_text(json.dumps(index, indent=1) + "\n")


def _flops(build: Callable[[int], torch.nn.Module], classes: int) -> int:
    """Of an image of 512x512, 2 for a multiply-add; nothing is computed."""
    with shapes_only():
        model, batch = build(classes).eval(), torch.empty(1, 3, 512, 512)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(batch)
    return counter.get_total_flops()


def main() -> None:
    """Parse the command line and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("function", metavar="MODULE:FUNCTION")
    parser.add_argument("--source", required=True)
    parser.add_argument("--classes", type=int, default=21)
    args = parser.parse_args()
    module, colon, function = args.function.partition(":")
    if not colon:
        parser.error(f"{args.function} is not of the form MODULE:FUNCTION")
    build = getattr(importlib.import_module(module), function)
    record(args.name, build, args.source, args.classes)


if __name__ == "__main__":
    main()
