"""Input pipelines side by side: JPEGs from a folder, and small images from memory.

    python benchmarks/pipeline.py

makes 500x375 JPEGs of about 80 KB (parts of the photographs that come with scikit-learn) and feeds
them as training would: random resized crop to 224 and flip. Ours, as it comes, keeps decoded images
in memory in its first epoch, which is not timed, and crops those. Keras's own loader crops nothing,
it only resizes. torchvision gets the best of several numbers of workers. The second table is
CIFAR-10's shape, 50,000 images of 32x32 in memory, shifted and flipped.
"""

import functools
import pathlib
import tempfile

import numpy as np
from common import Worker, arguments, bars, print_table, save, take_turns

SIZE, SHAPE = 224, (375, 500)
OURS, KERAS, TORCH = "ours", "keras.utils.image_dataset_from_directory", "torchvision ImageFolder"


def make_folder(root, count, classes=10):
    """JPEGs that are as hard to decode as photographs, since they are parts of some."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    photos = [Image.fromarray(image) for image in load_sample_images().images]
    for number in range(count):
        folder = root / f"class{number % classes}"
        folder.mkdir(parents=True, exist_ok=True)
        photo = photos[number % len(photos)]
        width = int(generator.integers(480, 560))
        height = width * SHAPE[0] // SHAPE[1]
        left, top = generator.integers(0, np.array(photo.size) - (width, height) + 1)
        box = (left, top, left + width, top + height)
        part = np.asarray(photo.resize(SHAPE[::-1], Image.BICUBIC, box)) * generator.uniform(
            0.7, 1.1
        )
        pixels = np.clip(part, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}.jpg", quality=96)


def through(batches):
    """A function that takes one pass over batches."""
    finished = []  # kept: tf.data may take a second to take an iterator apart, which is no work

    def take():
        finished.append(iter(batches))
        for _ in finished[-1]:
            pass

    return take


def ours(root, batch):
    from keras_resnext import load_dataset, training_batches

    dataset = load_dataset(root, SIZE)
    options = {"augmentation": "resized_crop_flip", "drop_remainder": True}
    steps = {
        OURS: through(training_batches(dataset, batch, **options)),
        f"{OURS}, nothing kept": through(training_batches(dataset, batch, cache=False, **options)),
        f"{OURS}, nothing kept, any order": through(
            training_batches(dataset, batch, cache=False, deterministic=False, **options)
        ),
    }
    for step in steps.values():
        step()
    return steps


def keras_loader(root, batch):
    import keras
    import tensorflow as tf

    batches = keras.utils.image_dataset_from_directory(
        root, image_size=(SIZE, SIZE), batch_size=batch, verbose=False
    )
    step = through(batches.prefetch(tf.data.AUTOTUNE))
    step()
    return {KERAS: step}


def torch_loader(root, batch, workers):
    import torch

    if not torch.cuda.is_available():
        # A build without CUDA beside torchvision from PyPI: the operators are not needed here.
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor a) -> Tensor")
    from torchvision import datasets, transforms

    augmentation = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
        ]
    )
    steps = {}
    for count in workers:
        loader = torch.utils.data.DataLoader(
            datasets.ImageFolder(root, augmentation),
            batch,
            shuffle=True,
            drop_last=True,
            num_workers=count,
            persistent_workers=count > 0,
            multiprocessing_context="fork" if count else None,  # its default here would spawn
        )
        steps[f"{TORCH}, {count} workers"] = through(loader)
    for step in steps.values():
        step()
    return steps


def small_images(count, batch):
    from keras_resnext import load_dataset, training_batches

    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(count) % 10
    dataset = load_dataset({"images": images, "labels": labels})
    step = through(training_batches(dataset, batch, augmentation="shift_flip"))
    step()
    return {f"{OURS}, shift and flip": step}


def main():
    options = arguments(__doc__, images=1000, batch=64, workers=[0, 1, 2, 4], small=50_000)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        make_folder(root, options.images)
        size = np.mean([path.stat().st_size for path in root.rglob("*.jpg")])
        print(f"{options.images} JPEGs of {size / 1e3:.0f} KB", flush=True)
        once = {"least": 1, "budget": 0.1}
        makers = {
            "ours": functools.partial(Worker, ours, (str(root), options.batch), **once),
            "keras": functools.partial(Worker, keras_loader, (str(root), options.batch), **once),
            "torch": functools.partial(
                Worker,
                torch_loader,
                (str(root), options.batch, options.workers),
                daemon=False,
                **once,
            ),
            "small": functools.partial(Worker, small_images, (options.small, 128), **once),
        }
        workers = take_turns(makers, options.rounds)
    taken = {"small": options.small * 4 // 5, "keras": options.images}
    ours_taken = options.images * 4 // 5 // options.batch * options.batch
    torch_taken = options.images // options.batch * options.batch
    taken |= {"ours": ours_taken, "torch": torch_taken}
    rows = [
        {
            "peer": label,
            "table": name == "small",
            "images_per_second": taken[name] / w.seconds(label),
        }
        for name, w in workers.items()
        for label in w.times
    ]
    report(options, rows)


def report(options, rows):
    jpegs = {row["peer"]: row["images_per_second"] for row in rows if not row["table"]}
    small = {row["peer"]: row["images_per_second"] for row in rows if row["table"]}
    base = jpegs.get(OURS, float("nan"))
    print_table(
        "JPEGs of 500x375, random resized crop to 224 and flip",
        ["pipeline", "images a second", "ours is so many times as fast"],
        [(name, f"{rate:,.0f}", base / rate) for name, rate in jpegs.items()],
    )
    print_table(
        "32x32 from memory",
        ["pipeline", "images a second"],
        [(name, f"{rate:,.0f}") for name, rate in small.items()],
    )
    path = save(options, "pipeline", rows)
    groups = {"JPEGs of 500x375 to 224": jpegs, "32x32 from memory": small}
    bars(path.with_suffix(".png"), "Input pipelines, two cores", "images a second", groups)


if __name__ == "__main__":
    main()
