"""Each technique of the assembled recipe on and off: top-1 on CIFAR-10, its spread and its cost.

    python benchmarks/ablation.py --data CIFAR10            # folders, an .npz or tfds:cifar10
    python benchmarks/ablation.py --data CIFAR10 --study overfitting --train 1000 --epochs 30

A small ResNet, a part of the training images, the same few epochs and seeds for every row; the
base row has none of the techniques. What does not help at that scale is shown as it is.
`--study overfitting` trains on few images for many epochs, with and without an L2 penalty, a
network that has batch norm and one that has not.

Every run has one core of its own: so small a network gains little from a second one, and the cost
of a step can be compared.
"""

import csv
import io
import multiprocessing
import os
import pathlib
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor

from common import arguments, bars, print_table, save, write_part

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
# The first has no batch norm, and is the one that the picture shows.
OVERFITTED = {"InceptionV1": {}, "ResNet20": NETWORK}


def run(data, recipe, model, network, folder):
    """Train once, in one of the processes; the summary, with the last training accuracy."""
    import keras
    from rich.console import Console

    from keras_resnext import load_dataset, network_for, train

    keras.backend.clear_session()
    keras.utils.set_random_seed(recipe.seed)
    data = load_dataset(data, 32)
    network = network_for(model, data, recipe, **network)
    summary = train(network, data, recipe, folder, console=Console(file=io.StringIO()))
    with (folder / "history.csv").open() as file:
        *_, last = csv.DictReader(file)
    return {**summary, "train_top1": float(last["top1"])}


def run_all(data, tasks, seeds):
    """Run every one of `{name: (recipe, model, network, folder)}` from every seed.

    Yields:
        Name and summaries, in order.
    """
    context = multiprocessing.get_context("spawn")
    cores = context.Queue()
    for core in os.sched_getaffinity(0):
        cores.put(core)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), context, _take_core, (cores,)) as pool:
        running = {
            name: [
                pool.submit(run, data, recipe.replace(seed=seed), *network, folder / f"{seed}")
                for seed in range(seeds)
            ]
            for name, (recipe, *network, folder) in tasks.items()
        }
        for name, futures in running.items():
            summaries = [future.result() for future in futures]
            print(name, [summary["test_top1"] for summary in summaries], flush=True)
            yield name, summaries


def _take_core(cores):
    os.sched_setaffinity(0, {cores.get()})


def ablation(options, data, folder):
    from keras_resnext import Recipe

    base = Recipe(epochs=options.epochs, batch_size=64, augmentation="shift_flip", **BASE)
    teacher = base.replace(epochs=2 * options.epochs)
    ((_, (taught,)),) = run_all(
        data, {"teacher": (teacher, "ResNet20", {}, folder / "teacher")}, seeds=1
    )
    tasks = {}
    for name, (changes, network) in TECHNIQUES.items():
        changes = changes | ({"teacher": taught["output"]} if "teacher" in changes else {})
        tasks[name] = base.replace(**changes), "ResNet20", NETWORK | network, folder / name
    rows = [
        {
            "technique": name,
            "top1": [s["test_top1"] for s in summaries],
            "images_per_second": statistics.median(s["images_per_second"] for s in summaries),
        }
        for name, summaries in run_all(data, tasks, options.rounds)
    ]
    save(options, "ablation", rows)
    _show(options, rows)


def _show(options, rows):
    mean = {row["technique"]: 100 * statistics.mean(row["top1"]) for row in rows}
    plain = rows[0]["images_per_second"]
    print_table(
        f"ResNet-8, {options.train:,} images, {options.epochs} epochs, {options.rounds} seeds",
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
        f"CIFAR-10, {options.train:,} images, {options.epochs} epochs: mean of "
        f"{options.rounds} seeds",
        "top-1 accuracy (%)",
        {"each technique alone": {name: round(value, 2) for name, value in mean.items()}},
    )


def overfitting(options, data, folder):
    """Adam for many epochs on few images, with and without the penalty."""
    from keras_resnext.plots import plot_curves
    from keras_resnext.training.recipes import get_recipe

    changes = {"epochs": options.epochs, "batch_size": 64, "augmentation": "none"}
    recipe = get_recipe("adam_l2").replace(**changes)
    tasks = {
        (model, name): (recipe.replace(weight_decay=2 * l2), model, network, folder / model / name)
        for model, network in OVERFITTED.items()
        for name, l2 in OVERFITTING.items()
    }
    rows = [
        {"model": model, "l2": OVERFITTING[name]}
        | {part: [100 * s[f"{part}_top1"] for s in summaries] for part in ("train", "test")}
        for (model, name), summaries in run_all(data, tasks, options.rounds)
    ]
    save(options, "overfitting", rows)
    gaps = [[a - b for a, b in zip(row["train"], row["test"], strict=True)] for row in rows]
    print_table(
        f"Adam, {options.train:,} images, {options.epochs} epochs, {options.rounds} seeds",
        ["network", "L2", "training top-1 %", "test top-1 %", "gap", "deviation"],
        [
            (
                row["model"],
                row["l2"],
                f"{statistics.mean(row['train']):.2f}",
                f"{statistics.mean(row['test']):.2f}",
                f"{statistics.mean(gap):.2f}",
                f"{statistics.stdev(gap):.2f}",
            )
            for row, gap in zip(rows, gaps, strict=True)
        ],
    )
    drawn = next(iter(OVERFITTED))
    plot_curves(
        {name: folder / drawn / name / "0" / "history.csv" for name in OVERFITTING},
        options.output / f"overfitting-{options.name}.png",
        f"{drawn}, Adam, {options.train:,} images of CIFAR-10, with and without L2",
    )


STUDIES = {"techniques": ablation, "overfitting": overfitting}


def main():
    options = arguments(
        __doc__,
        choices={"study": list(STUDIES)},
        rounds="seeds",
        data="tfds:cifar10",
        epochs=5,
        train=10_000,
        test=2_000,
        study="techniques",
    )
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "part.npz"
        write_part(options.data, 32, data, options.train, options.test)
        STUDIES[options.study](options, data, pathlib.Path(folder))


if __name__ == "__main__":
    main()
