"""Downloads are checked by SHA-256. A server on this machine serves the files."""

import hashlib
import http.server
import threading

import pytest
from conftest import TINY

from clip import clip
from clip.loading import load_clip


@pytest.fixture
def server(tmp_path):
    """(folder that is served, its URL)"""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_download_checks_the_sha256(server, tmp_path, tiny_path, monkeypatch):
    served, address = server
    content = tiny_path.read_bytes()
    sha = hashlib.sha256(content).hexdigest()
    (served / sha).mkdir()
    (served / sha / "tiny.pt").write_bytes(content)
    url, cache = f"{address}/{sha}/tiny.pt", tmp_path / "cache"
    assert clip._download(url, cache) == str(cache / "tiny.pt")
    (served / sha / "tiny.pt").write_bytes(b"changed on the server")
    assert clip._download(url, cache) == str(cache / "tiny.pt")  # not downloaded again
    (cache / "tiny.pt").write_bytes(b"broken")
    with pytest.warns(UserWarning, match="SHA-256"), pytest.raises(RuntimeError, match="invalid hash"):
        clip._download(url, cache)
    (served / sha / "tiny.pt").write_bytes(content)
    with pytest.warns(UserWarning, match="downloading it again"):
        clip._download(url, cache)
    monkeypatch.setitem(clip._MODELS, "tiny", url)
    assert load_clip("tiny", root=cache).visual.input_resolution == TINY["image_resolution"]
    with pytest.raises(RuntimeError, match=r"MODEL\.BACKBONE\.PATH"):
        clip._download(f"{address}/{sha}/gone.pt", cache)
    (cache / "folder.pt").mkdir()
    with pytest.raises(RuntimeError, match="not a regular file"):
        clip._download(f"{address}/{sha}/folder.pt", cache)
