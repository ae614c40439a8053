"""Downloads from a real server on the loopback, which breaks off, lies and redirects."""

import hashlib
import http.server
import multiprocessing
import re
import threading

import pytest

from keras_resnext.errors import DownloadError
from keras_resnext.weights import download

CONTENT = bytes(range(256)) * 4096 * 3  # 3 MiB: more than one chunk
HASH = hashlib.sha256(CONTENT).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at /file, and at /hub by a redirect that tells its hash, as the hub does."""

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        if self.path == "/hub":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.send_header("X-Linked-ETag", f'"{server.told}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path != "/file":
            self.send_error(404)
            return
        start = self._start()
        self.send_response(206 if start else 200)
        self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(server.content) - start))
        if start:
            end = len(server.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(server.content)}")
        self.end_headers()
        breaks_at = server.breaks.pop(0) if server.breaks else len(server.content)
        self.wfile.write(server.content[start : max(start, breaks_at)])

    def _start(self):
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fresh = self.headers.get("If-Range") == self.server.etag
        return int(asked[1]) if asked and fresh else 0

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.requests, server.breaks = [], []
    server.content, server.etag, server.told = CONTENT, '"one"', HASH
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()


def _left_over():
    names = (path.name for path in download.cache_folder().iterdir())
    return sorted(name for name in names if not name.endswith(".lock"))


def test_a_file_is_loaded_once_and_needs_no_network_again(hub):
    path = download.fetch(f"{hub.url}/hub", "a.bin")
    assert path.read_bytes() == CONTENT
    assert _left_over() == ["a.bin"]
    asked = len(hub.requests)
    assert download.fetch("http://127.0.0.1:9/nothing", "a.bin") == path
    assert len(hub.requests) == asked


def test_a_broken_connection_resumes_where_it_broke(hub):
    hub.breaks = [1_500_000, 2_500_000]
    assert download.fetch(f"{hub.url}/hub", "a.bin").read_bytes() == CONTENT
    ranges = [asked for path, asked in hub.requests if path == "/file"]
    starts = [int(asked[6:-1]) for asked in ranges[1:]]
    assert ranges[0] is None and len(starts) == 2
    assert 0 < starts[0] <= 1_500_000 < starts[1] <= 2_500_000


def test_what_has_come_is_kept_for_the_next_call(hub):
    hub.breaks = [1_200_000] + [0] * 20
    with pytest.raises(DownloadError, match=r"is there a network\?.*goes on from it.*put it at"):
        download.fetch(f"{hub.url}/hub", "a.bin")
    assert "a.bin" not in _left_over()
    hub.breaks = []
    hub.requests.clear()
    assert download.fetch(f"{hub.url}/hub", "a.bin").read_bytes() == CONTENT
    assert dict(hub.requests)["/file"] is not None  # a range: not from the beginning


def test_a_file_that_changed_meanwhile_is_loaded_anew(hub):
    hub.breaks = [1_200_000] + [0] * 20
    with pytest.raises(DownloadError):
        download.fetch(f"{hub.url}/hub", "a.bin")
    hub.breaks, hub.content, hub.etag = [], CONTENT[::-1], '"two"'
    hub.told = hashlib.sha256(hub.content).hexdigest()
    assert download.fetch(f"{hub.url}/hub", "a.bin").read_bytes() == hub.content


@pytest.mark.parametrize("how", ["told by the hub", "known before"])
def test_a_wrong_hash_is_refused_and_leaves_nothing(hub, how):
    hub.told = "0" * 64 if how == "told by the hub" else HASH
    known = None if how == "told by the hub" else "deadbeef"
    with pytest.raises(DownloadError, match=f"wrong hash and was deleted.*{HASH}"):
        download.fetch(f"{hub.url}/hub", "a.bin", sha256=known)
    assert _left_over() == []


def test_the_first_digits_of_a_hash_will_do(hub):
    path = download.fetch(f"{hub.url}/file", "a.bin", sha256=HASH[:8])
    assert path.read_bytes() == CONTENT


def test_a_file_without_a_hash_is_not_loaded(hub):
    with pytest.raises(DownloadError, match="without a hash"):
        download.fetch(f"{hub.url}/file", "a.bin")
    assert _left_over() == []


def test_no_network_offline_and_a_missing_file_say_what_to_do(hub, monkeypatch):
    with pytest.raises(DownloadError, match="404.*You can bring the file by hand"):
        download.fetch(f"{hub.url}/missing", "a.bin")
    hub.shutdown()
    with pytest.raises(DownloadError, match="is there a network"):
        download.fetch("http://127.0.0.1:9/file", "a.bin")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE forbids.*by hand"):
        download.fetch(f"{hub.url}/hub", "a.bin")


def test_two_processes_at_once_load_it_once(hub):
    context = multiprocessing.get_context("spawn")
    arguments = (f"{hub.url}/hub", "a.bin")
    processes = [context.Process(target=download.fetch, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (download.cache_folder() / "a.bin").read_bytes() == CONTENT
    assert sum(path == "/file" for path, _ in hub.requests) == 1
