"""Results of an evaluation, kept image by image, so that a stopped one can go on.

    OUTPUT/run.json               what was evaluated: weights, settings, images
    OUTPUT/per_image/00012.json   the confusion matrix of one image, with the hash of the above
    OUTPUT/predictions/NAME.png   its predicted classes, with the palette

Every file is complete or absent. One that is damaged, or of another run, is not used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from factseg_paddle.engine.evaluation.evaluator import ImageResult, Pairs
from factseg_paddle.files import atomic_write, remove_leftovers_of
from factseg_paddle.inference.png_strips import png_strips
from factseg_paddle.progress import NO_PROGRESS, Progress

RESULTS = ("metrics.json", "per_image.csv", "confusion_matrix.png")
"""What is written at the end, and removed where an evaluation starts anew."""

_FORMAT = "factseg evaluation 1"


class EvaluationStore:
    """The results of one evaluation.

    Args:
        folder: where they lie; it is made. Results of another evaluation there are dropped.
        pairs: the images.
        about: what the results depend on besides: weights and settings, as plain JSON values.
        progress: takes a line on what is dropped or done again, and how many images are known.

    Raises:
        OSError: the folder can't be made or written.
    """

    def __init__(
        self,
        folder: Path,
        pairs: Pairs,
        about: Mapping[str, Any],
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self._folder, self._pairs, self._progress = folder, pairs, progress
        images = [[pairs.name(i), *pairs.size(i)] for i in range(len(pairs))]
        content = {
            "format": _FORMAT,
            **about,
            "class_names": pairs.class_names,
            "ignore_index": pairs.ignore_index,
            "images": images,
        }
        content = json.loads(json.dumps(content))  # as it will be read: lists for tuples
        self._key = _hash(content)
        for part in ("per_image", "predictions"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        self._start_anew_where_another(content)
        remove_leftovers_of(map(self.prediction, range(len(pairs))))
        remove_leftovers_of(map(self._file, range(len(pairs))))
        self._results = {}
        for index in range(len(pairs)):
            if result := self._read(index):
                self._results[index] = result
        if self._results:
            progress.log(f"{folder}: {len(self._results)} of {len(pairs)} images are done already")

    def result(self, index: int) -> ImageResult | None:
        """Return what is known of an image."""
        return self._results.get(index)

    def prediction(self, index: int) -> Path:
        """Return the file of an image's predicted classes."""
        return self._folder / "predictions" / f"{self._pairs.name(index).replace('/', '_')}.png"

    @contextmanager
    def recording(self, index: int) -> Iterator[Callable[[np.ndarray], None]]:
        """Write the predicted classes of an image."""
        width = self._pairs.size(index)[1]
        with (
            atomic_write(self.prediction(index)) as temporary,
            png_strips(temporary, width, self._pairs.palette) as write,
        ):
            yield write

    def keep(self, result: ImageResult) -> None:
        """Write a result; the image counts as done from here on."""
        content = {
            "run": self._key,
            "index": result.index,
            "name": result.name,
            "height": result.height,
            "width": result.width,
            "matrix": result.matrix.tolist(),
        }
        _write_json(self._file(result.index), content | {"sha256": _hash(content)})
        self._results[result.index] = result

    def _file(self, index: int) -> Path:
        return self._folder / "per_image" / f"{index:05d}.json"

    def _start_anew_where_another(self, content: Mapping[str, Any]) -> None:
        path = self._folder / "run.json"
        earlier = _read_json(path) if path.is_file() else content
        if earlier != content:
            what = "is damaged"
            if earlier is not None:
                keys = sorted(k for k in {*earlier, *content} if earlier.get(k) != content.get(k))
                what = f"is of another evaluation ({', '.join(keys)})"
            self._progress.log(f"{path} {what}: starting anew")
            for file in (
                *(self._folder / "per_image").glob("[0-9]*.json"),
                *(self._folder / "predictions").glob("*.png"),
            ):
                file.unlink()
            for name in RESULTS:
                (self._folder / name).unlink(missing_ok=True)
        _write_json(path, content)

    def _read(self, index: int) -> ImageResult | None:
        path = self._file(index)
        if not path.is_file():
            return None
        content = _read_json(path)
        if content is None or content.pop("sha256", None) != _hash(content):
            self._progress.log(f"{path} is damaged: {self._pairs.name(index)} is evaluated again")
            return None
        if content.pop("run") != self._key:
            return None
        if not self.prediction(index).is_file():
            self._progress.log(
                f"{self.prediction(index)} is gone: {self._pairs.name(index)} is evaluated again"
            )
            return None
        return ImageResult(**content | {"matrix": np.array(content["matrix"], np.int64)})


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a file; None where it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # no UTF-8, or no JSON
        return None
    return content if isinstance(content, dict) else None


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
