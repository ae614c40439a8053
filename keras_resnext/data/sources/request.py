"""What a source is asked for."""

from collections.abc import Callable
from dataclasses import dataclass

from keras_resnext.data.parts import Dataset


@dataclass(frozen=True)
class Request:
    """What every source is given.

    Args:
        source: A name or a path.
        image_size: Edge in pixels, or None for that of the images.
        seed: Of a split.
        on_error: What is done about broken files: "raise" or "skip".
    """

    source: str
    image_size: int | None = None
    seed: int = 0
    on_error: str = "raise"


@dataclass(frozen=True)
class Source:
    """A row of the table of sources.

    Args:
        name: As the error shows it that nothing accepts a string.
        accepts: Whether a string given as ``--data`` means this source.
        load: Takes a Request, gives a Dataset.
        summary: One line for the same.
    """

    name: str
    accepts: Callable[[str], bool]
    load: Callable[[Request], Dataset]
    summary: str
