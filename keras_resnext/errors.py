"""Messages of errors: what was given, what is valid, and the nearest valid name."""

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: object, valid: Iterable[object]) -> str:
    """Return a message such as `Unknown model "ResNeXt51". Did you mean "ResNeXt50"?`."""
    names = [str(v) for v in valid]
    by_lower = {known.lower(): known for known in names}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    if near:
        return f'Unknown {kind} "{name}". Did you mean "{by_lower[near[0]]}"?'
    return f'Unknown {kind} "{name}". Valid: {", ".join(names)}.'


class DownloadError(ValueError):
    """A file could not be downloaded; the message says what to do."""
