"""The folder of a run: where it may be, what it holds, and writing files whole or not at all."""

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from keras_resnext.model_files import MODEL

BEST, CHECKPOINT = "best.keras", "checkpoint.safetensors"
HISTORY, PLOT = "history.csv", "history.png"
CONFIG, SUMMARY = "config.json", "summary.json"
RUN_FILES = (BEST, CHECKPOINT, CONFIG, HISTORY, PLOT, MODEL, SUMMARY)
# TensorBoard's, a folder.
EVENTS = "events"
# Only where files were left out.
SKIPPED = "skipped.csv"
RUNS = Path("runs")


def check_output(output: str | Path | None, overwrite: bool = False) -> None:
    """Refuse, before any work, a folder that a run cannot be written to.

    Args:
        output: The folder, which need not exist, or None for one of our own choice.
        overwrite: Whether a run that is there already may be replaced.

    Raises:
        ValueError: If it holds a run, is no folder, or cannot be written to.
    """
    folder = Path(output or RUNS)
    if output and not overwrite and holds_run(folder):
        raise ValueError(
            f'The output folder "{folder}" already holds a run. '
            "Name another, go on with it (--resume), or allow overwriting (--overwrite)."
        )
    parent = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryDirectory(dir=parent):
            pass
    except OSError as error:
        raise ValueError(
            f'The output folder "{folder}" cannot be written: {error.strerror} ({parent}). '
            "Name a folder that can."
        ) from error


def check_resumable(folder: str | Path) -> None:
    """Refuse, before any work, a folder without a run to go on with.

    Args:
        folder: Of a run.

    Raises:
        ValueError: If it has no checkpoint, or was not begun by the command line.
    """
    path = Path(folder, CONFIG)
    if not path.is_file():
        raise ValueError(f'"{folder}" holds no run: there is no {CONFIG} in it.')
    if not Path(folder, CHECKPOINT).is_file():
        raise ValueError(f'"{folder}" has no {CHECKPOINT}: the run ended before its first one.')
    if "session" not in read_json(path):
        raise ValueError(
            f'The run in "{folder}" was begun in Python with a model of its own: go on with '
            "`train(..., resume=True)`."
        )


def holds_run(folder: str | Path) -> bool:
    """Say whether any file of a run is there.

    Args:
        folder: Need not exist.
    """
    return any(Path(folder, name).exists() for name in RUN_FILES)


def make_folder(output: str | Path | None, model: str, data: str) -> Path:
    """Make the folder of a run, empty of files of a run.

    Args:
        output: The folder, or None for ``runs/<model>-<data>``, with -2, -3 if that exists.
        model: Name of the network.
        data: Name of the data set.

    Returns:
        Its path.
    """
    if output is None:
        return _first_free(RUNS / f"{model}-{data}")
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    remove_run(folder)
    return folder


def remove_run(folder: Path) -> None:
    """Remove the files of a run, and nothing else.

    Args:
        folder: Of the run.
    """
    for name in (*RUN_FILES, SKIPPED):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / EVENTS, ignore_errors=True)


def _first_free(path: Path) -> Path:
    """Making the folder is what claims it: two runs that start together get two."""
    number = 1
    while True:
        candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return candidate


def write_whole(path: Path, write) -> None:
    """Let a file be written under another name, then rename it: it is whole or as it was.

    Args:
        path: Of the file.
        write: Called with the path to write to, which has the same suffix.

    Raises:
        WriteError: If it cannot be written.
    """
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
    """A file of a run that could not be written; the one before it is whole."""


def read_json(path: Path) -> dict:
    """Read what ``write_json`` has written.

    Args:
        path: Of the file.

    Raises:
        ValueError: If it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f'"{path}" cannot be read: {error}') from error


def write_json(path: Path, data: Mapping) -> None:
    """Write JSON, whole or not at all; what is not a number (NaN) becomes null.

    Args:
        path: Of the file.
        data: What JSON can hold.
    """
    text = json.dumps(_finite(data), indent=2, allow_nan=False) + "\n"
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_rows(path: Path, rows: Sequence[Mapping]) -> None:
    """Write a table as CSV, whole or not at all.

    Args:
        path: Of the file.
        rows: At least one, all with the same keys.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_whole(path, lambda part: part.write_text(text.getvalue(), encoding="utf-8"))


def _finite(value):
    if isinstance(value, Mapping):
        return {key: _finite(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(member) for member in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value
