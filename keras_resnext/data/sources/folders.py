"""A folder of class folders, with or without train/ and test/ (or val/) above them."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_resnext.data.images import (
    HIDDEN,
    SUFFIXES,
    broken_or_raise,
    common_size,
    describe_broken,
)
from keras_resnext.data.parts import Dataset, Part, photo_augmentation, split, square, take
from keras_resnext.data.sources import DataSource, Request

TRAIN_FOLDERS = ("train", "training")
TEST_FOLDERS = ("test", "val", "valid", "validation")


def load(request: Request) -> Dataset:
    """Read the paths and classes of a folder, and the header of every file."""
    root = Path(request.source)
    train_root = _first_folder(root, TRAIN_FOLDERS)
    test_root = _first_folder(root, TEST_FOLDERS)
    if train_root is None and test_root is not None:
        raise ValueError(
            f"{test_root} has no training folder beside it. Expected {root / TRAIN_FOLDERS[0]}, "
            "with the same class folders. If it is a class, rename it: "
            f"{', '.join(TEST_FOLDERS)} are names of test parts."
        )
    if train_root is None or test_root is None:
        names, whole = _scan_classes(train_root or root)
        broken = broken_or_raise(whole.images, request.on_error)
        train, test = split(request.source, without(whole, broken), request.seed)
    else:
        names, train = _scan_classes(train_root)
        test_names, test = _scan_classes(test_root)
        _check_same_classes(train_root, names, test_root, test_names)
        broken = broken_or_raise((*train.images, *test.images), request.on_error)
        train, test = without(train, broken), without(test, broken)
    return of_files(request, root.resolve().name, names, train, test, broken)


def of_files(
    request: Request,
    name: str,
    class_names: tuple[str, ...],
    train: Part,
    test: Part,
    broken: dict[str, str],
) -> Dataset:
    """Make a data set of image files without the broken ones."""
    for label, class_name in enumerate(class_names):
        if label not in train.labels:
            raise ValueError(f'{request.source}: no whole image of "{class_name}" to train on.')
    size = request.image_size or square(
        request.source, common_size(request.source, (*train.images, *test.images))
    )
    return Dataset(
        name=name,
        source=request.source,
        train=train,
        test=test,
        class_names=class_names,
        image_size=size,
        augmentation=photo_augmentation(size),
        skipped=tuple(broken.items()),
    )


def without(part: Part, broken: dict[str, str]) -> Part:
    """Return a part of paths without the broken files."""
    whole = [i for i, path in enumerate(part.images) if path not in broken]
    if part.images and not whole:
        faults = {path: broken[path] for path in part.images}
        raise ValueError(describe_broken(faults, ": without them nothing is left of their part"))
    return take(part, whole)


def _first_folder(root: Path, names: Sequence[str]) -> Path | None:
    by_name = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    return next((by_name[name] for name in names if name in by_name), None)


def _scan_classes(root: Path) -> tuple[tuple[str, ...], Part]:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not _hidden(path.name))
    files = {folder.name: _image_files(folder) for folder in folders}
    if not any(files.values()):
        raise ValueError(
            f"No image in {root}. Expected one folder per class with {', '.join(SUFFIXES)} files."
            f"{_what_is_there(root)}"
        )
    for name, members in files.items():
        if not members:
            raise ValueError(
                f"The class folder {root / name} has no image ({', '.join(SUFFIXES)}). "
                "Add some or remove the folder."
            )
    if len(files) < 2:
        raise ValueError(f'{root} has one class only, "{folders[0].name}". Expected two or more.')
    labels = np.repeat(np.arange(len(files)), [len(members) for members in files.values()])
    return tuple(files), Part(tuple(f for m in files.values() for f in m), labels)


def _image_files(folder: Path) -> list[str]:
    """List files below a class folder, at any depth, sorted so that a seed always splits alike."""
    paths = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        paths += [os.path.join(place, name) for name in files if _is_image(name)]
    return sorted(paths)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not _hidden(name)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in HIDDEN


def _what_is_there(root: Path) -> str:
    """Return a hint on why a folder that is not empty has no images."""
    loose = [p for p in root.iterdir() if _is_image(p.name)]
    if loose:
        return f" {loose[0].name} and {len(loose) - 1} more lie beside, not in, class folders."
    other = {p.suffix for p in root.rglob("*") if p.is_file() and not _hidden(p.name)}
    return f" Found only {', '.join(sorted(other)) or 'nothing'}." if other else ""


def _check_same_classes(train_root: Path, train: tuple, test_root: Path, test: tuple) -> None:
    if train == test:
        return
    lacking = [
        f'"{name}" is in {root} only'
        for root, names, others in ((train_root, train, test), (test_root, test, train))
        for name in names
        if name not in others
    ]
    raise ValueError(
        f"The class folders of {train_root} and {test_root} disagree: {'; '.join(lacking[:4])}. "
        "Expected the same class folders in both."
    )


SOURCE = DataSource(
    "FOLDER",
    lambda source: Path(source).is_dir(),
    load,
    "one folder per class, with train/ and test/ above them or without",
    fallback=True,
)
