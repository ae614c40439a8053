"""The sentences of an error: what was given, what would do, and the nearest valid name."""

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: object, valid: Iterable[object]) -> str:
    """Return the message for a name that is not among the valid ones.

    Args:
        kind: str, what the name is of, such as "model".
        name: The name that was given.
        valid: Iterable of the names that exist.

    Example:
    >>> unknown("model", "ResNeXt51", ["ResNet50", "ResNeXt50"])
    'Unknown model "ResNeXt51". Did you mean "ResNeXt50"?'
    """
    names = [str(v) for v in valid]
    by_lower = {known.lower(): known for known in names}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    if near:
        return f'Unknown {kind} "{name}". Did you mean "{by_lower[near[0]]}"?'
    return f'Unknown {kind} "{name}". Valid: {", ".join(names)}.'


def one_of(argument, value, valid):
    """Raise a ValueError unless `value` is one of `valid`."""
    if not any(value is v or (isinstance(value, str) and value == v) for v in valid):
        choices = ", ".join(repr(v) for v in valid)
        raise ValueError(f"`{argument}` must be one of {choices}. Received: {argument}={value!r}")


class DownloadError(ValueError):
    """A file that could not be loaded from the network; it says what to do."""
