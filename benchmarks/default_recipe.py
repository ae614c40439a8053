"""The default recipe beside plain Keras: what a first run of a few thousand images ends with.

    python benchmarks/default_recipe.py --data clothing=FOLDER cifar10=FOLDER
    python benchmarks/default_recipe.py --pairs digits-ResNeXt35 --rounds 5
    python benchmarks/default_recipe.py --recipes default sgd    # sgd was the default before

Plain Keras is `Adam` at 1e-3, falling to 0 as a cosine, with a flip and a small shift (digits are
only shifted): the same network from the same seed, the same images, batch, epochs and precision.
A pair whose folder is not given is left out; the digits need none.

Everything is measured on a fifth of the training images (500 at most), never on a test part. The
table shows the accuracy after the last epoch, and the worst validation loss of any epoch but the
first. Each run is saved when it ends, so the script resumes if it is started again.
"""

import csv
import dataclasses
import io
import json
import math
import pathlib
import statistics
import tempfile
import time

from common import arguments, save
from rich.console import Console

from keras_resnext import (
    get_recipe,
    load_dataset,
    network_for,
    test_batches,
    train,
    training_batches,
)
from keras_resnext.data.parts import labels_of, stratified_split, take

BENCHMARK = "default_recipe"
PLAIN, RATE, PRECISION = "plain Keras", 1e-3, "auto"
VALIDATION, VALIDATED = 0.2, 500


@dataclasses.dataclass(frozen=True)
class Pair:
    """A network and the images that it is trained on; `images` of the training part, or all."""

    data: str
    model: str
    image_size: int
    epochs: int
    batch_size: int = 64
    images: int | None = None


PAIRS = {
    "digits-ResNeXt35": Pair("digits", "ResNeXt35", 32, epochs=10, batch_size=32),
    "clothing-ResNet18": Pair("clothing", "ResNet18", 48, epochs=5, images=1500),
    "clothing-300-ResNet18": Pair("clothing", "ResNet18", 48, 12, batch_size=32, images=300),
    "clothing-ResNeXt50": Pair("clothing", "ResNeXt50", 32, epochs=5, images=1000),
    "clothing-InceptionV1": Pair("clothing", "InceptionV1", 48, epochs=6, images=1500),
    "cifar10-ResNet20": Pair("cifar10", "ResNet20", 32, epochs=4, images=2000),
    "cifar10-ResNet50V2": Pair("cifar10", "ResNet50V2", 32, epochs=4, images=1500),
}


def main():
    options = arguments(
        __doc__,
        choices={"pairs": list(PAIRS)},
        rounds="seeds",
        data=["digits"],
        pairs=list(PAIRS),
        recipes=["default"],
    )
    folders = {"digits": "digits"} | dict(s.split("=", 1) for s in options.data if "=" in s)
    rows = finished(options)
    done = {key(row) for row in rows}
    for seed in range(options.rounds):
        for name in options.pairs:
            for peer in (PLAIN, *options.recipes):
                row = {"pair": name, "peer": peer, "seed": seed}
                if PAIRS[name].data not in folders or key(row) in done:
                    continue
                rows.append(row | measure(PAIRS[name], folders[PAIRS[name].data], peer, seed))
                print(rows[-1], flush=True)
                save(options, BENCHMARK, rows)
    print(markdown(rows))


def finished(options):
    """Return the runs of an earlier call."""
    path = options.output / f"{BENCHMARK}-{options.name}.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def key(row):
    return row["pair"], row["peer"], row["seed"]


def measure(pair, source, peer, seed):
    """Train once; return accuracy and losses on the validation images, and the seconds."""
    import keras

    keras.backend.clear_session()
    dataset = validated(pair, source, seed)
    recipe = get_recipe("default" if peer == PLAIN else peer).replace(
        epochs=pair.epochs, batch_size=pair.batch_size, precision=PRECISION, seed=seed
    )
    # Both start from the same weights, except for fields of the network in a recipe.
    network = recipe.replace(network={}) if peer == PLAIN else recipe
    model = network_for(pair.model, dataset, network)
    begin = time.perf_counter()
    history = plain(model, dataset, pair, seed) if peer == PLAIN else ours(model, dataset, recipe)
    return {
        "top1": history["val_top1"][-1],
        "epochs": [round(top1, 4) for top1 in history["val_top1"]],
        "losses": [round(loss, 3) for loss in history["val_loss"]],
        "seconds": round(time.perf_counter() - begin, 1),
    }


def validated(pair, source, seed):
    """Return the data set with validation images as its test part."""
    dataset = load_dataset(source, pair.image_size)
    fraction = min(VALIDATION, VALIDATED / len(dataset.train))
    rest, held = stratified_split(labels_of(dataset.train), fraction, seed)
    train_part, validation = take(dataset.train, rest), take(dataset.train, held)
    if pair.images:
        share = pair.images / len(train_part)
        train_part = take(train_part, stratified_split(labels_of(train_part), share, seed)[1])
    return dataclasses.replace(dataset, train=train_part, test=validation)


def ours(model, dataset, recipe):
    """Train by a recipe; return the columns of the run's history.csv."""
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder, "run")
        train(model, dataset, recipe, run, console=Console(file=io.StringIO()))
        with (run / "history.csv").open() as file:
            epochs = list(csv.DictReader(file))
    return {name: [float(epoch[name]) for epoch in epochs] for name in ("val_top1", "val_loss")}


def plain(model, dataset, pair, seed):
    """Train in two lines of Keras; return the history."""
    import keras
    import tensorflow as tf

    augmentation = "shift" if pair.data == "digits" else "shift_flip"
    batches = training_batches(dataset, pair.batch_size, seed=seed, augmentation=augmentation)
    validation = test_batches(dataclasses.replace(dataset, augmentation=augmentation))
    steps = math.ceil(len(dataset.train) / pair.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(RATE, steps * pair.epochs)
    metrics = [keras.metrics.CategoricalAccuracy(name="top1")]
    model.compile(keras.optimizers.Adam(rate), "categorical_crossentropy", metrics=metrics)
    batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
    fitted = model.fit(
        batches, epochs=pair.epochs, validation_data=validation, shuffle=False, verbose=0
    )
    return fitted.history


def markdown(rows):
    """Return a table with mean and spread of each peer, and its worst loss after epoch 1."""
    peers = list(dict.fromkeys(row["peer"] for row in rows))
    lines = ["| | " + " | ".join(f"{peer} | worst loss" for peer in peers) + " |"]
    lines.append("|---" * (2 * len(peers) + 1) + "|")
    for pair in dict.fromkeys(row["pair"] for row in rows):
        cells = [cell for peer in peers for cell in summary(rows, pair, peer)]
        lines.append(f"| {pair} | {' | '.join(cells)} |")
    return "\n".join(lines)


def summary(rows, pair, peer):
    """Return two cells: accuracy in percent, and the worst loss of any epoch but the first."""
    runs = [row for row in rows if (row["pair"], row["peer"]) == (pair, peer)]
    if not runs:
        return "", ""
    top1 = [100 * run["top1"] for run in runs]
    spread = f" ± {statistics.stdev(top1):.1f}" if len(top1) > 1 else ""
    worst = max(loss for run in runs for loss in run["losses"][1:])
    return f"{statistics.mean(top1):.1f}{spread}", f"{worst:.2f}"


if __name__ == "__main__":
    main()
