"""Each technique of the assembled recipe on and off: top-1 on CIFAR-10, its spread and its cost.

    python benchmarks/ablation.py --data CIFAR10            # folders, an .npz or tfds:cifar10
    python benchmarks/ablation.py --data CIFAR10 --study overfitting

A small ResNet, a part of the training images, the same few epochs and seeds for every row; the
base row has none of the techniques. What does not help at that scale is shown as it is.
`--study overfitting` trains on few images for many epochs, with and without an L2 penalty.
"""

import json
import pathlib
import statistics
import tempfile

from common import arguments, bars, print_table, save

# Technique: fields of the recipe, fields of the network. Everything else is the base row's.
BASE = {"schedule": "step", "milestones": (0.5, 0.75), "warmup": 0.0}
TECHNIQUES = {
    "base": ({}, {}),
    "cosine": ({"schedule": "cosine", "milestones": (), "warmup": 0.1}, {}),
    "label smoothing": ({"label_smoothing": 0.1}, {}),
    "MixUp": ({"mixing": "mixup(0.2)"}, {}),
    "CutMix": ({"mixing": "cutmix"}, {}),
    "DropBlock": ({"drop_ramp": 1.0}, {"drop_block": 0.1, "drop_block_size": 3}),
    "AutoAugment": ({"augmentation": "shift_flip+autoaugment_cifar10"}, {}),
    "squeeze-excite": ({}, {"attention": "se"}),
    "selective kernel": ({}, {"attention": "sk"}),
    "zero-gamma": ({}, {"zero_gamma": True}),
    "EMA": ({"ema": 0.99}, {}),
    "distillation": ({"teacher": "TEACHER"}, {}),
    "bfloat16": ({"precision": "mixed_bfloat16"}, {}),
}
# A shallow ResNet20, that many runs are affordable; the teacher has all its blocks.
NETWORK = {"blocks": (1, 1, 1)}
OVERFITTING = {"without": 0.0, "L2 5e-4": 5e-4}


def part_of(data, train, test):
    """As many images of a data set, the classes in equal shares."""
    from dataclasses import replace

    from keras_resnext.data.parts import labels_of, stratified_split, take

    def some(part, count):
        if count >= len(part):
            return part
        return take(part, stratified_split(labels_of(part), count / len(part), seed=0)[1])

    return replace(data, train=some(data.train, train), test=some(data.test, test))


def run(data, recipe, network, folder):
    """Train once; the summary."""
    import io

    import keras
    from rich.console import Console

    from keras_resnext import network_for, train

    keras.backend.clear_session()
    model = network_for("ResNet20", data, recipe, **network)
    return train(model, data, recipe, folder, console=Console(file=io.StringIO()))


def ablation(options, data, folder):
    from keras_resnext import Recipe

    base = Recipe(epochs=options.epochs, batch_size=64, augmentation="shift_flip", **BASE)
    teacher = base.replace(epochs=2 * options.epochs)
    print("teacher", run(data, teacher, {}, folder / "teacher")["test_top1"], flush=True)
    rows = []
    for name, (changes, network) in TECHNIQUES.items():
        if changes.get("teacher"):
            changes = {"teacher": str(folder / "teacher")}
        summaries = [
            run(data, base.replace(seed=s, **changes), NETWORK | network, folder / f"{name}-{s}")
            for s in range(options.rounds)
        ]
        rows.append(
            {
                "technique": name,
                "top1": [s["test_top1"] for s in summaries],
                "images_per_second": statistics.median(s["images_per_second"] for s in summaries),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    save(options, "ablation", rows)
    _show(options, rows, data)


def _show(options, rows, data):
    mean = {row["technique"]: 100 * statistics.mean(row["top1"]) for row in rows}
    plain = rows[0]["images_per_second"]
    print_table(
        f"ResNet-8, {len(data.train):,} images, {options.epochs} epochs, {options.rounds} seeds",
        ["technique", "top-1 %", "spread", "against base", "time of a step"],
        [
            (
                row["technique"],
                f"{mean[row['technique']]:.2f}",
                f"{100 * statistics.stdev(row['top1']):.2f}",
                f"{mean[row['technique']] - mean['base']:+.2f}",
                f"{plain / row['images_per_second']:.2f}",
            )
            for row in rows
        ],
    )
    bars(
        options.output / f"ablation-{options.name}.png",
        f"CIFAR-10, {len(data.train):,} images, {options.epochs} epochs: mean of "
        f"{options.rounds} seeds",
        "top-1 accuracy (%)",
        {"each technique alone": {name: round(value, 2) for name, value in mean.items()}},
    )


def overfitting(options, data, folder):
    """Adam for many epochs on few images, with and without the penalty."""
    from keras_resnext.plots import plot_curves
    from keras_resnext.training.recipes import get_recipe

    rows, histories = [], {}
    for name, l2 in OVERFITTING.items():
        recipe = get_recipe("adam_l2").replace(
            l2=l2, epochs=options.epochs, batch_size=64, augmentation="none"
        )
        run(data, recipe, {}, folder / name)
        histories[name] = folder / name / "history.csv"
        last = histories[name].read_text().splitlines()
        last = dict(zip(last[0].split(","), map(float, last[-1].split(",")), strict=True))
        gap = last["top1"] - last["val_top1"]
        rows.append({"l2": l2, "train": last["top1"], "test": last["val_top1"], "gap": gap})
        print(rows[-1], flush=True)
    save(options, "overfitting", rows)
    plot_curves(
        histories,
        options.output / f"overfitting-{options.name}.png",
        f"Adam on {len(data.train):,} images of CIFAR-10, with and without an L2 penalty",
    )


STUDIES = {"techniques": ablation, "overfitting": overfitting}


def main():
    options = arguments(
        __doc__, data="tfds:cifar10", epochs=5, train=10_000, test=2_000, study="techniques"
    )
    from keras_resnext import load_dataset

    with tempfile.TemporaryDirectory() as folder:
        data = part_of(load_dataset(options.data, 32), options.train, options.test)
        STUDIES[options.study](options, data, pathlib.Path(folder))


if __name__ == "__main__":
    main()
