"""Downloads from a real server on the loopback, which breaks off, lies and redirects."""

import dataclasses
import hashlib
import http.server
import multiprocessing
import re
import threading

import numpy as np
import pytest
import safetensors.numpy
from small import SMALL

from keras_resnext import create_model, from_timm, preprocessing
from keras_resnext.errors import DownloadError
from keras_resnext.models.description import description
from keras_resnext.weights import download, sources
from keras_resnext.weights.grammar import timm_config
from keras_resnext.weights.load import to_timm

CONTENT = bytes(range(256)) * 4096 * 3  # 3 MiB: more than one chunk
HASH = hashlib.sha256(CONTENT).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at /file, and at /hub by a redirect that tells its hash, as the hub does."""

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        if self.path == "/hub" or self.path.startswith("/timm/"):
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
    with pytest.raises(
        DownloadError, match=r"is there a network\?.*the next call resumes.*put it at"
    ):
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


@pytest.fixture(scope="module")
def checkpoint():
    """A file of resnet18's weights as the hub has it, and the network."""
    model = create_model("ResNet18", **SMALL)
    tensors = to_timm(model, timm_config("resnet18"))
    return safetensors.numpy.save(tensors), model


def _serve(hub, content):
    hub.content, hub.told = content, hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size, source_size", [(224, 224), (288, 288), (160, 288)])
def test_from_timm_loads_from_the_hub_and_knows_its_images(
    hub, checkpoint, monkeypatch, size, source_size
):
    content, theirs = checkpoint
    _serve(hub, content)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    model = from_timm("resnet18.a1_in1k", input_shape=(size, size, 3), **SMALL)
    asked = hub.requests[0][0]
    assert asked == "/timm/resnet18.a1_in1k/resolve/main/model.safetensors"
    np.testing.assert_array_equal(model.get_weights()[0], theirs.get_weights()[0])
    expected = preprocessing("resnet18.a1_in1k", training=source_size == 224)
    assert expected.size == source_size
    layer = preprocessing(model)
    assert (layer.size, layer.crop) == (size, expected.crop) and layer.interpolation == "bicubic"
    assert description(model).class_names == "imagenet"
    assert _left_over() == ["resnet18.a1_in1k.safetensors"]


@pytest.mark.parametrize("right", [True, False])
def test_the_hash_of_a_row_is_required_whatever_the_server_tells(
    hub, checkpoint, monkeypatch, right
):
    content, theirs = checkpoint
    _serve(hub, content)
    known = sources.SOURCES["resnet18.IMAGENET1K_V1"]
    digits = hub.told[:8] if right else known.sha256
    row = dataclasses.replace(known, address=f"{hub.url}/hub", sha256=digits)
    monkeypatch.setitem(sources.SOURCES, row.name, row)
    if right:
        model = create_model("ResNet18", weights="IMAGENET1K_V1", **SMALL)
        np.testing.assert_array_equal(model.get_weights()[0], theirs.get_weights()[0])
        return
    with pytest.raises(DownloadError, match="wrong hash and was deleted.*expected f37072fd"):
        create_model("ResNet18", weights="IMAGENET1K_V1")
    assert _left_over() == []


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
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE forbids its download.*by hand"):
        download.fetch(f"{hub.url}/hub", "a.bin")


def test_two_processes_at_once_load_it_once(hub):
    context = multiprocessing.get_context("spawn")
    arguments = (f"{hub.url}/hub", "a.bin")
    processes = [context.Process(target=download.fetch, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (download.cache_folder() / "a.bin").read_bytes() == CONTENT
    assert sum(path == "/file" for path, _ in hub.requests) == 1
