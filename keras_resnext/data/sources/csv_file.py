"""A CSV file of paths and labels."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_resnext.data.images import broken_or_raise
from keras_resnext.data.parts import Dataset, Part, check_labels, split, take
from keras_resnext.data.sources import DataSource, Request
from keras_resnext.data.sources.folders import TEST_FOLDERS, TRAIN_FOLDERS, of_files, without

PATH_COLUMNS = ("path", "file", "filename", "image", "filepath")
LABEL_COLUMNS = ("label", "class", "target", "category")
PART_COLUMNS = ("split", "part", "subset")


def load(request: Request) -> Dataset:
    """Read a CSV file whose header names a path, a label and optionally a split."""
    rows = _read(request.source)
    folder = Path(request.source).parent
    paths = tuple(str(folder / row["path"]) for row in rows)
    names = _class_names([row["label"] for row in rows])
    numbers = {name: number for number, name in enumerate(names)}
    labels = np.array([numbers[row["label"]] for row in rows], np.int64)
    broken = broken_or_raise(paths, request.on_error)
    train, test = _parts(request, rows, Part(paths, labels), broken)
    check_labels(request.source, names, train.labels, test.labels)
    return of_files(request, Path(request.source).stem, names, train, test, broken)


def _read(source: str) -> list[dict[str, str]]:
    with open(source, newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        header = table.fieldnames or []
        columns = {
            "path": _column(source, header, PATH_COLUMNS),
            "label": _column(source, header, LABEL_COLUMNS),
        }
        part = _first(header, PART_COLUMNS)
        rows = [
            {
                "path": row[columns["path"]],
                "label": row[columns["label"]],
                "split": (row[part] or "").strip().lower() if part else "",
            }
            for row in table
        ]
    for number, row in enumerate(rows, 2):
        if not row["path"] or not row["label"]:
            raise ValueError(f"{source}, line {number}: no path or no label.")
    if not rows:
        raise ValueError(f"{source} has no row below its header.")
    return rows


def _first(header: Sequence[str], names: Sequence[str]) -> str | None:
    by_lower = {column.strip().lower(): column for column in header}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _column(source: str, header: Sequence[str], names: Sequence[str]) -> str:
    column = _first(header, names)
    if column is None:
        raise ValueError(
            f"{source} has the columns {', '.join(header) or '(none)'}. "
            f"Expected one called {' or '.join(names)}."
        )
    return column


def _class_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Sort as numbers if all are numbers, so that 10 comes after 9."""
    names = set(labels)
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def _parts(
    request: Request, rows: Sequence[Mapping[str, str]], whole: Part, broken: Mapping[str, str]
) -> tuple[Part, Part]:
    splits = [row["split"] for row in rows]
    unknown = set(splits) - {*TRAIN_FOLDERS, *TEST_FOLDERS, ""}
    if unknown:
        raise ValueError(
            f'{request.source} has the split "{sorted(unknown)[0]}". '
            f"Expected {', '.join((*TRAIN_FOLDERS, *TEST_FOLDERS))} or nothing."
        )

    def chosen(names: Sequence[str]) -> Part:
        return without(take(whole, [i for i, name in enumerate(splits) if name in names]), broken)

    # A test part in the file is used as it is. What is neither (val beside test) is left alone.
    test = next((part for name in TEST_FOLDERS if len(part := chosen((name,)))), None)
    train = chosen((*TRAIN_FOLDERS, ""))
    if len(train) == 0:
        raise ValueError(f"{request.source} has no row to train on: every row has another split.")
    return (train, test) if test else split(request.source, train, request.seed)


SOURCE = DataSource(
    "FILE.csv",
    lambda source: source.endswith(".csv") and Path(source).is_file(),
    load,
    "columns path, label and optionally split",
)
