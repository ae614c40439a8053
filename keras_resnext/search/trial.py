"""One trial of a search, in its own process: `python -m keras_resnext.search.trial FOLDER`.

It ends with the process that started it, or by an alarm at its time limit.
"""

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from keras_resnext.search.folder import TrialFolder, read_if_there

if TYPE_CHECKING:
    import keras

    from keras_resnext.data.parts import Dataset

# Exceptions of the frameworks when memory is short.
OUT_OF_MEMORY = ("MemoryError", "ResourceExhaustedError", "OutOfMemoryError", "XlaRuntimeError")


def main(arguments: Sequence[str]) -> int:
    """Run the trial of a folder; the exit code is 0 if a result was written, even of a failure."""
    parser = argparse.ArgumentParser(prog="keras_resnext.search.trial")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cores", type=lambda text: [int(core) for core in text.split(",")])
    parser.add_argument("--time-limit", type=float, default=0.0)
    options = parser.parse_args(arguments)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.setitimer(signal.ITIMER_REAL, options.time_limit)
    if options.cores:
        os.sched_setaffinity(0, options.cores)
    folder = TrialFolder(options.folder)
    with folder.working():
        try:
            result = run(folder)
        except Exception as error:
            traceback.print_exc()
            result = {"status": "failed", "reason": describe(error)}
        folder.finish(result)
    return 0


def run(folder: TrialFolder) -> dict:
    """Run the unfinished executions of a trial, and return the content of result.json."""
    from keras_resnext.data.datasets import load_dataset

    spec = folder.spec
    whole = load_dataset(
        spec["data"],
        spec["image_size"],
        spec["split_seed"],
        spec["recipe"].get("on_error", "raise"),
    )
    dataset = hold_out(whole, spec["holdout"], spec["split_seed"])
    summaries = [_execution(folder, spec, dataset, k) for k in range(spec["executions"])]
    return {"status": "completed", **summarize(summaries, spec["objective"])}


def hold_out(dataset: "Dataset", fraction: float, seed: int) -> "Dataset":
    """Return the data of a search: training images are held out, and the test part is dropped."""
    from keras_resnext.data.parts import split

    train, validation = split(dataset.source, dataset.train, seed, fraction)
    return replace(dataset, train=train, test=validation)


def _execution(folder: TrialFolder, spec: Mapping, dataset: "Dataset", number: int) -> dict:
    from keras_resnext.training.run_folder import SUMMARY

    output = folder.run(number)
    summary = read_if_there(output / SUMMARY)
    if summary is not None:
        return summary

    import keras

    from keras_resnext.training.build import network_for
    from keras_resnext.training.recipe import from_fields
    from keras_resnext.training.train import train

    recipe = from_fields(spec["recipe"])
    recipe = recipe.replace(epochs=spec["epochs"], seed=recipe.seed + number)
    model = network_for(recipe.model, dataset, recipe, spec["weights"])
    if spec["previous"] is not None:
        _load_previous(model, folder.path.parent / spec["previous"], output.name)
    callbacks = []
    if spec["patience"]:
        callbacks.append(
            keras.callbacks.EarlyStopping("val_top1", patience=spec["patience"], mode="max")
        )
    # If the process was killed before, training resumes from the last checkpoint.
    return train(model, dataset, recipe, output, overwrite=True, resume=True, callbacks=callbacks)


def _load_previous(model: "keras.Model", previous: Path, run: str) -> None:
    from keras_resnext.training.run_folder import MODEL

    weights = previous / run / MODEL
    if not weights.exists():
        raise ValueError(f"Trial {previous.name}, which this one continues, left no weights.")
    model.load_weights(weights)


def summarize(summaries: Sequence[Mapping], objective: str) -> dict:
    """Return the score of a trial, and means and sums over its executions."""
    top1 = [row["test_top1"] for row in summaries]
    rates = [row["images_per_second"] for row in summaries if row["images_per_second"]]
    means = {
        "top1": _mean(top1),
        "spread": max(top1) - min(top1),
        "loss": _mean([row["test_loss"] for row in summaries]),
        "images_per_second": _mean(rates) if rates else None,
        "seconds": sum(row["seconds"] for row in summaries),
        "epochs": sum(row["epochs"] for row in summaries),
    }
    return {"score": OBJECTIVES[objective](means), **means}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# The second: "MnasNet: Platform-Aware Neural Architecture Search for Mobile", section 3.1. Twice
# the speed is worth 5 % of the accuracy.
OBJECTIVES = {
    "top1": lambda means: means["top1"],
    "top1_and_speed": lambda means: means["top1"] * (means["images_per_second"] or 1.0) ** 0.07,
}


def describe(error: Exception) -> str:
    """Return why a trial failed, in one line."""
    kind = type(error).__name__
    text = " ".join(str(error).split())
    line = f"{kind}: {text[:300]}" if text else kind
    return f"out of memory: {line}" if kind in OUT_OF_MEMORY else line


def _end_with_parent() -> None:
    # Not through Python's buffer, whose lock a thread that never ends would hold at the exit.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
