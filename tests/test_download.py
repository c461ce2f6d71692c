"""Data sets are fetched, checked, unpacked safely, and fetched again after a broken download; from a local server."""

import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError, load_plugins
from datasets.base import Download, FewShotDataset
from tools import download


class Server:
    """Serves bytes by path; `broken` answers are cut short, that many times."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.broken = 0
        self.requests: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.path)
                content = outer.files.get(self.path.strip("/"))
                if content is None:
                    self.send_error(404)
                    return
                start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                body = content[start:]
                if outer.broken > 0:
                    outer.broken -= 1
                    body = body[: len(body) // 2]
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{name}"


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def toy(server, monkeypatch):
    """A data set with an archive in an archive, a plain file and a split file."""
    inner = tar({"images/a/1.jpg": b"1", "images/b/2.jpg": b"2"})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("toy-data/inner.tar.gz", inner)
        archive.writestr("toy-data/readme", "x")
    split = {"train": [["a/1.jpg", 0, "a"]], "val": [], "test": [["b/2.jpg", 1, "b"]]}
    server.files = {"toy.zip": buffer.getvalue(), "names.json": b"{}", "split.json": json.dumps(split).encode()}

    class Toy(FewShotDataset):
        dataset_dir = "toy"
        image_dir = "images"
        downloads = (
            Download(server.url("toy.zip"), md5=md5(server.files["toy.zip"]), inside="toy-data", inner="inner.tar.gz"),
            Download(server.url("names.json"), "names.json", md5(b"{}")),
            Download(server.url("split.json"), "split.json", entries=(1, 0, 1)),
        )

    monkeypatch.setitem(DATASET_REGISTRY._objects, "Toy", Toy)
    return Toy


def test_a_data_set_is_fetched_once(toy, server, tmp_path, capsys):
    assert download.main(["Toy", "--root", str(tmp_path)]) == 0
    assert (tmp_path / "toy/images/a/1.jpg").read_bytes() == b"1"
    assert (tmp_path / "toy/names.json").is_file()
    assert not list((tmp_path / "toy/.downloads").glob("*.zip"))  # no space for what is unpacked
    count = len(server.requests)
    assert download.main(["Toy", "--root", str(tmp_path)]) == 0
    assert len(server.requests) == count
    assert "Toy: complete" in capsys.readouterr().out


def test_a_broken_download_is_gone_on_with(toy, server, tmp_path, capsys):
    server.broken = 1
    first = download.main(["Toy", "--root", str(tmp_path)])
    if first != 0:
        assert "can't download" in capsys.readouterr().err
        assert download.main(["Toy", "--root", str(tmp_path)]) == 0
    assert (tmp_path / "toy/images/b/2.jpg").is_file()


def test_a_file_with_another_sum_is_fetched_anew(toy, server, tmp_path, capsys):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/names.json").write_bytes(b"damaged")
    assert download.main(["Toy", "--root", str(tmp_path)]) == 0
    assert (tmp_path / "toy/names.json").read_bytes() == b"{}"
    (tmp_path / "toy/names.json").unlink()
    server.files["names.json"] = b"changed on the server"
    assert download.main(["Toy", "--root", str(tmp_path)]) == 2
    assert "another MD5" in capsys.readouterr().err
    assert not (tmp_path / "toy/names.json").exists()


def test_a_wrong_split_file_is_refused(toy, server, tmp_path, capsys):
    server.files["split.json"] = b"<html>quota exceeded</html>"
    assert download.main(["Toy", "--root", str(tmp_path)]) == 2
    assert "should list (1, 0, 1) images" in capsys.readouterr().err
    assert not (tmp_path / "toy/split.json").exists()


def test_a_dead_link_says_where_to_put_the_file(toy, server, tmp_path, capsys):
    del server.files["names.json"]
    assert download.main(["Toy", "--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: can't download")
    assert str(tmp_path / "toy/names.json") in error


def test_archives_cant_write_elsewhere(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    archive = folder / "evil.tar.gz"
    archive.write_bytes(tar({"../../escaped": b"x"}))
    with pytest.raises(InputError, match="can't be unpacked"):
        download.unpack(archive, folder)
    with zipfile.ZipFile(folder / "evil.zip", "w") as content:
        content.writestr("../../escaped", "x")
    download.unpack(folder / "evil.zip", folder)
    assert not list(tmp_path.glob("escaped"))
    assert not (tmp_path.parent / "escaped").exists()
    (folder / "cut.tar.gz").write_bytes(tar({"a": b"x" * 1000})[:60])
    with pytest.raises(InputError, match="start again"):
        download.unpack(folder / "cut.tar.gz", folder)


def test_names(capsys):
    assert download.find("dtd").__name__ == download.find("DescribableTextures").__name__
    assert download.main(["no_such_data"]) == 2
    assert "Caltech101" in capsys.readouterr().err


OF_NOBODY = ("Folder", "MultiTask", "Two")  # data that is not published


def load_names() -> list[str]:
    load_plugins("datasets")
    return [name for name in DATASET_REGISTRY.registered_names() if name not in OF_NOBODY]


@pytest.mark.parametrize("name", load_names())
def test_every_data_set_says_how_to_get_it(name):
    kind = DATASET_REGISTRY.get(name)
    assert getattr(kind, "downloads", ()) or kind.by_hand
    for item in getattr(kind, "downloads", ()):
        assert item.url.startswith("http")
        assert not item.target or Path(item.target).suffix
        assert not item.md5 or len(item.md5) == 32
