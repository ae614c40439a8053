"""The data sources: each module has a row of the table as `SOURCE`."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from keras_resnext.data.parts import Dataset


@dataclass(frozen=True)
class Request:
    """What a source has to load: the arguments of `load_dataset`."""

    source: str
    image_size: int | None = None
    seed: int = 0
    on_error: str = "raise"


@dataclass(frozen=True)
class DataSource:
    """A row of `datasets.DATA_SOURCES`.

    Args:
        name: str, what users type, with variable parts in capitals.
        accepts: Function from the text after `--data` to whether it means this source.
        load: Function from a `Request` to a `Dataset`.
        summary: str, one line for users.
        fallback: bool, whether to try the other sources first.
    """

    name: str
    accepts: Callable[[str], bool]
    load: Callable[[Request], Dataset]
    summary: str
    fallback: bool = False


def find_sources() -> dict[str, DataSource]:
    """Return the rows of all modules in this folder, by name."""
    names = (f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))
    rows = [importlib.import_module(name).SOURCE for name in names]
    return {row.name: row for row in rows}
