"""Evaluation from files to files: what `scripts/evaluate.py` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from factseg_paddle.config.schema import Evaluation
from factseg_paddle.data.open import open_pairs
from factseg_paddle.data.pairs import ImagePairs
from factseg_paddle.data.synthetic.sample import paint_configured_sample
from factseg_paddle.engine.evaluation.evaluator import EvaluationResult, evaluate
from factseg_paddle.engine.evaluation.report import write_report, write_worst
from factseg_paddle.engine.evaluation.store import EvaluationStore
from factseg_paddle.engine.restore import restore
from factseg_paddle.inference.predictor import counted, network_predictor
from factseg_paddle.inference.sliding_window import Predict, SlidingWindow
from factseg_paddle.progress import NO_PROGRESS, Progress
from factseg_paddle.transforms import Normalization

# Weights of one network fit others too, of another stride for instance.
_DECIDING_OF_MODEL = {"name", "options"}


@dataclass(frozen=True, eq=False)
class EvaluationRun:
    """An evaluation that can start: weights loaded, data found, output folder made.

    Attributes:
        pairs: images and masks.
        predict: the network.
        settings: the sliding window.
        normalization: from images to the network's input.
        output: folder of the results.
        store: the results so far.
        about: what the results depend on.
        inputs_left: how many inputs of the network the images take that are not done.
    """

    pairs: ImagePairs
    predict: Predict
    settings: Evaluation
    normalization: Normalization
    output: Path
    store: EvaluationStore
    about: Mapping[str, Any]
    inputs_left: int

    @classmethod
    def prepare(
        cls,
        weights: Path,
        output: Path,
        *,
        config: Path | None = None,
        opts: Sequence[str] = (),
        changes: Mapping[str, Any] | None = None,
        progress: Progress = NO_PROGRESS,
    ) -> EvaluationRun:
        """Load and check everything; arguments and errors as `restore`, `open_pairs` and the store.

        Raises:
            ValueError: weights, configuration, device or data can't be used.
            OSError: a file can't be read or the output folder can't be written.
        """
        restored = restore(weights, config=config, opts=opts, changes=changes)
        progress.log(str(restored))
        data, settings = restored.config.data, restored.config.eval
        paint_configured_sample(data)
        pairs = open_pairs(data, "val")
        about = {
            "weights": {"file": str(restored.file.resolve()), "sha256": restored.sha256},
            "dataset_root": data.dataset_root,
            "settings": settings.model_dump(),
            **asdict(data.normalization),
        }
        # where the weights lie and how many windows go at once change no result
        deciding = about | {
            "weights": restored.sha256,
            "settings": settings.model_dump(exclude={"batch_size"}),
            "model": restored.config.model.model_dump(include=_DECIDING_OF_MODEL),
        }
        store = EvaluationStore(output, pairs, deciding, progress)
        predict = network_predictor(restored.network)
        engine = SlidingWindow.of_settings(predict, settings)
        left = (i for i in range(len(pairs)) if store.result(i) is None)
        inputs = sum(engine.count(*pairs.size(index)) for index in left)
        return cls(pairs, predict, settings, data.normalization, output, store, about, inputs)

    def run(self, progress: Progress = NO_PROGRESS, *, worst: int = 5) -> EvaluationResult:
        """Evaluate what is left and write the report.

        Args:
            progress: counts the inputs of the network.
            worst: error maps of so many of the worst images are drawn.

        Raises:
            ValueError: an image or mask can't be read, or the predictions are not finite.
            OSError: a file can't be written.
        """
        progress.start(self.inputs_left, "evaluating")
        evaluated = evaluate(
            self.pairs,
            counted(self.predict, progress),
            self.settings,
            normalization=self.normalization,
            store=self.store,
        )
        write_worst(self.output, evaluated, self.pairs, self.store, worst)
        write_report(self.output, evaluated, self.about)
        return evaluated
