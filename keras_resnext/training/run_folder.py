"""The folder of a run: where it may be, what it holds, and writing files whole or not at all."""

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from keras_resnext.model_files import MODEL

BEST, CHECKPOINT = "best.keras", "checkpoint.safetensors"
HISTORY, PLOT = "history.csv", "history.png"
CONFIG, SUMMARY = "config.json", "summary.json"
RUN_FILES = (BEST, CHECKPOINT, CONFIG, HISTORY, PLOT, MODEL, SUMMARY)
# TensorBoard's folder.
EVENTS = "events"
# Written only if files were left out.
SKIPPED = "skipped.csv"
RUNS = Path("runs")


def check_output(output: str | Path | None, overwrite: bool = False) -> None:
    """Raise a `ValueError`, before any work, if a run cannot be written to a folder."""
    folder = Path(output or RUNS)
    if output and not overwrite and holds_run(folder):
        raise ValueError(
            f'The output folder "{folder}" already holds a run. '
            "Name another, resume it (--resume), or allow overwriting (--overwrite)."
        )
    parent = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryDirectory(dir=parent):
            pass
    except OSError as error:
        raise ValueError(
            f'The output folder "{folder}" cannot be written: {error.strerror} ({parent}). '
            "Name another folder."
        ) from error


def check_resumable(folder: str | Path) -> None:
    """Raise a `ValueError`, before any work, if a folder has no run that `resume` can resume."""
    path = Path(folder, CONFIG)
    if not path.is_file():
        raise ValueError(f'"{folder}" holds no run: there is no {CONFIG} in it.')
    if not Path(folder, CHECKPOINT).is_file():
        raise ValueError(f'"{folder}" has no {CHECKPOINT}: the run ended before its first one.')
    if "session" not in read_json(path):
        raise ValueError(
            f'The run in "{folder}" was begun in Python with a model of its own: resume it with '
            "`train(..., resume=True)`."
        )


def holds_run(folder: str | Path) -> bool:
    """Return whether a folder, which need not exist, has any file of a run."""
    return any(Path(folder, name).exists() for name in RUN_FILES)


def make_folder(output: str | Path | None, model: str, data: str) -> Path:
    """Make the folder of a run, without files of an earlier run, and return its path.

    By default it is `runs/<model>-<data>`, with -2, -3 and so on if that exists.
    """
    if output is None:
        return _first_free(RUNS / f"{model}-{data}")
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    remove_run(folder)
    return folder


def remove_run(folder: Path) -> None:
    """Remove the files of a run from its folder, and nothing else."""
    for name in (*RUN_FILES, SKIPPED):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / EVENTS, ignore_errors=True)


def _first_free(path: Path) -> Path:
    """Return a new folder; runs that start at the same time get different ones."""
    number = 1
    while True:
        candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return candidate


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name, of the same suffix, and rename it once it is complete."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        write(part)
        os.replace(part, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise WriteError(
            f'"{path}" could not be written: {error}. What was there before is as it was.'
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()


class WriteError(OSError):
    """A file of a run could not be written; its earlier version is intact."""


def read_json(path: Path) -> dict:
    """Read what `write_json` has written, or raise a `ValueError`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f'"{path}" cannot be read: {error}') from error


def write_json(path: Path, data: Mapping) -> None:
    """Write JSON, whole or not at all; NaN becomes null."""
    text = json.dumps(_finite(data), indent=2, allow_nan=False) + "\n"
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_rows(path: Path, rows: Sequence[Mapping]) -> None:
    """Write rows with the same keys, at least one, as CSV, whole or not at all."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_whole(path, lambda part: part.write_text(text.getvalue(), encoding="utf-8"))


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(member) for member in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value
