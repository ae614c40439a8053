"""Downloads from the hub: resumable, checked by their hash, cached."""

import hashlib
import json
import os
import pathlib
import time
from typing import TYPE_CHECKING

from keras_resnext.errors import DownloadError

if TYPE_CHECKING:
    import requests

_CHUNK = 1 << 20
_ATTEMPTS = 5
_TIMEOUT = (10, 60)  # to connect, and between two chunks, in seconds


def cache_folder() -> pathlib.Path:
    """Return the folder of downloads, `models/keras_resnext` in Keras's own folder."""
    home = os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras"
    return pathlib.Path(home) / "models" / "keras_resnext"


def fetch(url: str, name: str, sha256: str | None = None) -> pathlib.Path:
    """Return the path of the file `name` in the cache, downloading it if missing.

    Interrupted downloads are resumed, and of several processes only one downloads. `sha256` may be
    the first digits of the hash; None means the hash that the Hugging Face hub sends.
    """
    import filelock

    path = cache_folder() / name
    if path.is_file():
        return path
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        raise DownloadError(
            f'"{name}" is missing, and HF_HUB_OFFLINE forbids its download. {_by_hand(url, path)}'
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{path}.lock"):
        if not path.is_file():  # another process may have been faster
            _download(url, path, sha256)
    return path


def _download(url: str, path: pathlib.Path, sha256: str | None) -> None:
    import requests

    partial = path.with_name(path.name + ".partial")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            sent_hash = _attempt(url, partial, sha256)
            break
        except requests.HTTPError as error:
            raise DownloadError(
                f"The server refused {url}: {error.response.status_code} {error.response.reason}. "
                f"{_by_hand(url, path)}"
            ) from error
        except requests.RequestException as error:
            if attempt == _ATTEMPTS:
                raise DownloadError(
                    f"{url} could not be downloaded ({type(error).__name__}): is there a network? "
                    "The part that has arrived is kept, and the next call resumes. "
                    f"{_by_hand(url, path)}"
                ) from error
            time.sleep(0.2 * 2**attempt)
    _check(partial, sha256 or sent_hash, url)
    partial.replace(path)
    _state(partial).unlink(missing_ok=True)


def _attempt(url: str, partial: pathlib.Path, sha256: str | None) -> str | None:
    """Download the missing part of the file, and return the hash that the server sent."""
    import requests

    state = _read_state(partial)
    have = partial.stat().st_size if partial.is_file() and state.get("url") == url else 0
    headers = {"Accept-Encoding": "identity"}
    if have and state.get("etag"):
        headers |= {"Range": f"bytes={have}-", "If-Range": state["etag"]}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == 416:  # nothing is missing
            return state.get("sha256")
        response.raise_for_status()
        sent_hash = _sent_hash(response) or state.get("sha256")
        if not sha256 and not sent_hash:
            raise DownloadError(f"{url} comes without a hash to check, so it was not downloaded.")
        if response.status_code != 206:  # all of it again
            have = 0
        state = {"url": url, "etag": response.headers.get("ETag"), "sha256": sent_hash}
        _state(partial).write_text(json.dumps(state))
        total = have + int(response.headers.get("Content-Length", 0))
        _write(response, partial, have, total)
    if total and partial.stat().st_size < total:
        raise requests.ConnectionError("the connection ended before the file did")
    return sent_hash


def _write(response: "requests.Response", partial: pathlib.Path, have: int, total: int) -> None:
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
        for chunk in response.iter_content(_CHUNK):
            file.write(chunk)
            bar.update(task, advance=len(chunk))


def _sent_hash(response: "requests.Response") -> str | None:
    """Return the SHA-256 that the hub sends with a large file or with the redirect to it."""
    for part in (response, *response.history):
        tag = part.headers.get("X-Linked-ETag", "").strip('W/"')
        if len(tag) == 64:
            return tag
    return None


def _check(partial: pathlib.Path, sha256: str, url: str) -> None:
    with partial.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(sha256.lower()):
        partial.unlink()
        _state(partial).unlink(missing_ok=True)
        raise DownloadError(
            f"{url} has the wrong hash and was deleted: SHA-256 {digest}, expected {sha256}. "
            "Try again; if it happens twice, do not trust the server."
        )


def _state(partial: pathlib.Path) -> pathlib.Path:
    """Return the path of the address and version of an unfinished download."""
    return partial.with_name(partial.name + ".json")


def _read_state(partial: pathlib.Path) -> dict:
    try:
        return json.loads(_state(partial).read_text())
    except (OSError, ValueError):
        return {}


def _by_hand(url: str, path: pathlib.Path) -> str:
    return f"You can bring the file by hand: download {url} elsewhere and put it at {path}."
