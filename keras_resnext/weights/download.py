"""Files from the hub: resumed where they broke off, checked by their hash, kept once."""

import hashlib
import json
import os
import pathlib
import time

from keras_resnext.errors import DownloadError

_CHUNK = 1 << 20
_ATTEMPTS = 5
_TIMEOUT = (10, 60)  # to connect, and between two chunks, in seconds


def cache_folder():
    """Where downloads are kept: `models/keras_resnext` in Keras's own folder."""
    home = os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras"
    return pathlib.Path(home) / "models" / "keras_resnext"


def fetch(url, name, sha256=None):
    """Return the path of a file, downloading it unless it is there.

    A download that breaks off is resumed, now or at the next call. Several processes may ask
    for one file: one of them loads it. A file is at its place only once its hash is right.

    Args:
        url: str.
        name: str, the name of the file in the cache folder.
        sha256: str, the SHA-256 of the file in hexadecimal, or how it begins (at least 8
            digits); None takes the one that the Hugging Face hub sends.

    Returns:
        `pathlib.Path`.

    Raises:
        DownloadError: a ValueError, if there is no network, the server refuses, or the hash is
            wrong or unknown; it says what to do.
    """
    import filelock

    path = cache_folder() / name
    if path.is_file():
        return path
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        raise DownloadError(
            f'"{name}" is not here, and HF_HUB_OFFLINE forbids to load it. {_by_hand(url, path)}'
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{path}.lock"):
        if not path.is_file():  # another process may have been faster
            _download(url, path, sha256)
    return path


def _download(url, path, sha256):
    import requests

    partial = path.with_name(path.name + ".partial")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            told = _attempt(url, partial, sha256)
            break
        except requests.HTTPError as error:
            raise DownloadError(
                f"The server refused {url}: {error.response.status_code} {error.response.reason}. "
                f"{_by_hand(url, path)}"
            ) from error
        except requests.RequestException as error:
            if attempt == _ATTEMPTS:
                raise DownloadError(
                    f"{url} could not be loaded ({type(error).__name__}): is there a network? "
                    f"What has come is kept, and the next call goes on from it. "
                    f"{_by_hand(url, path)}"
                ) from error
            time.sleep(0.2 * 2**attempt)
    _check(partial, sha256 or told, url)
    partial.replace(path)
    _state(partial).unlink(missing_ok=True)


def _attempt(url, partial, sha256):
    """Load what is missing of the file, and return the hash that the server told."""
    import requests

    state = _read_state(partial)
    have = partial.stat().st_size if partial.is_file() and state.get("url") == url else 0
    headers = {"Accept-Encoding": "identity"}
    if have and state.get("etag"):
        headers |= {"Range": f"bytes={have}-", "If-Range": state["etag"]}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == 416:  # all of it is here
            return state.get("sha256")
        answer.raise_for_status()
        resumed = answer.status_code == 206
        told = _told_hash(answer) or state.get("sha256")
        if not sha256 and not told:
            raise DownloadError(f"{url} comes without a hash to check it by, so it was not loaded.")
        if not resumed:
            have = 0
        state = {"url": url, "etag": answer.headers.get("ETag"), "sha256": told}
        _state(partial).write_text(json.dumps(state))
        total = have + int(answer.headers.get("Content-Length", 0))
        _write(answer, partial, have, total)
    if total and partial.stat().st_size < total:
        raise requests.ConnectionError("the connection ended before the file did")
    return told


def _write(answer, partial, have, total):
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns) as bar, partial.open("ab" if have else "wb") as file:
        task = bar.add_task(partial.name.removesuffix(".partial"), total=total or None)
        bar.update(task, completed=have)
        for chunk in answer.iter_content(_CHUNK):
            file.write(chunk)
            bar.update(task, advance=len(chunk))


def _told_hash(answer):
    """The SHA-256 by which the hub names a large file, from the answer or what redirected to it."""
    for each in (answer, *answer.history):
        tag = each.headers.get("X-Linked-ETag", "").strip('W/"')
        if len(tag) == 64:
            return tag
    return None


def _check(partial, sha256, url):
    digest = hashlib.sha256()
    with partial.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if not digest.hexdigest().startswith(sha256.lower()):
        partial.unlink()
        _state(partial).unlink(missing_ok=True)
        raise DownloadError(
            f"{url} has the wrong hash and was deleted: SHA-256 {digest.hexdigest()}, expected "
            f"{sha256}. Try again; if it happens twice, do not trust the server."
        )


def _state(partial):
    """What is known of a download that is under way: from where, and which version."""
    return partial.with_name(partial.name + ".json")


def _read_state(partial):
    try:
        return json.loads(_state(partial).read_text())
    except (OSError, ValueError):
        return {}


def _by_hand(url, path):
    return f"You can bring the file by hand: load {url} elsewhere and put it at {path}."
