"""The sentences of an error: what was given, what would do, and the nearest valid name."""

import difflib


def unknown(kind, name, valid):
    """Return the message for a name that is not among the valid ones.

    Example:

    >>> unknown("model", "ResNeXt51", ["ResNet50", "ResNeXt50"])
    'Unknown model "ResNeXt51". Did you mean "ResNeXt50"?'
    """
    valid = [str(v) for v in valid]
    by_lower = {v.lower(): v for v in valid}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    if near:
        return f'Unknown {kind} "{name}". Did you mean "{by_lower[near[0]]}"?'
    return f'Unknown {kind} "{name}". Valid: {", ".join(valid)}.'


def one_of(argument, value, valid):
    """Raise a ValueError unless `value` is one of `valid`."""
    if not any(value is v or (isinstance(value, str) and value == v) for v in valid):
        choices = ", ".join(repr(v) for v in valid)
        raise ValueError(f"`{argument}` must be one of {choices}. Received: {argument}={value!r}")


class DownloadError(ValueError):
    """A file that could not be loaded from the network; it says what to do."""
