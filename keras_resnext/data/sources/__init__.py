"""The sources of data: a module for each, which has its row of the table as `SOURCE`."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from keras_resnext.data.parts import Dataset


@dataclass(frozen=True)
class Request:
    """What a source has to load.

    Args:
        source: str, a name or a path.
        image_size: int, edge of the images in pixels, or None for the size they have.
        seed: int, seed of a split.
        on_error: str, `"raise"` names broken files, `"skip"` leaves them out.
    """

    source: str
    image_size: int | None = None
    seed: int = 0
    on_error: str = "raise"


@dataclass(frozen=True)
class DataSource:
    """A row of `datasets.DATA_SOURCES`.

    Args:
        name: str, what is typed, with what varies in capitals.
        accepts: Function from the text after `--data` to whether it means this source.
        load: Function from a `Request` to a `Dataset`.
        summary: str, one line for people.
        fallback: bool, whether the others are tried first.
    """

    name: str
    accepts: Callable[[str], bool]
    load: Callable[[Request], Dataset]
    summary: str
    fallback: bool = False


def find_sources() -> dict[str, DataSource]:
    """Return the rows of all modules here, by name."""
    names = (f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))
    rows = [importlib.import_module(name).SOURCE for name in names]
    return {row.name: row for row in rows}
