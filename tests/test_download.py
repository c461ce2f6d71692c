"""tools/download.py: downloads from a local server, resumed downloads, checksums, unsafe archives."""

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
    """Serves `files` by path. The next `broken` answers are cut short."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.broken = 0
        self.requests: list[str] = []
        self.ranges: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.path)
                outer.ranges.append(self.headers.get("Range"))
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
    """A data set with a nested archive, a plain file and a split file."""
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


def test_a_complete_data_set_is_not_downloaded_again(toy, server, tmp_path, capsys):
    assert download.main(["Toy", "--root", str(tmp_path)]) == 0
    assert (tmp_path / "toy/images/a/1.jpg").read_bytes() == b"1"
    assert (tmp_path / "toy/names.json").is_file()
    assert not list((tmp_path / "toy/.downloads").glob("*.zip"))  # deleted after unpacking
    count = len(server.requests)
    assert download.main(["Toy", "--root", str(tmp_path)]) == 0
    assert len(server.requests) == count
    assert "Toy: complete" in capsys.readouterr().out


def test_the_same_command_continues_after_a_failed_download(toy, server, tmp_path, capsys):
    server.broken = 1
    assert download.main(["Toy", "--root", str(tmp_path)]) == 2
    assert "can't download" in capsys.readouterr().err
    assert download.main(["Toy", "--root", str(tmp_path)]) == 0
    assert (tmp_path / "toy/images/b/2.jpg").is_file()


def test_a_partial_file_is_resumed(server, tmp_path):
    content = bytes(range(256)) * 2**13  # 2 MiB: the received half has several chunks
    server.files["large"], server.broken = content, 1
    with pytest.raises(InputError, match="can't download"):
        download.fetch(server.url("large"), tmp_path / "large", md5(content))
    download.fetch(server.url("large"), tmp_path / "large", md5(content))
    assert (tmp_path / "large").read_bytes() == content
    assert server.ranges[-1] == f"bytes={len(content) // 2}-"


def test_a_file_with_a_wrong_checksum_is_downloaded_again(toy, server, tmp_path, capsys):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/names.json").write_bytes(b"damaged")
    assert download.main(["Toy", "--root", str(tmp_path)]) == 0
    assert (tmp_path / "toy/names.json").read_bytes() == b"{}"
    (tmp_path / "toy/names.json").unlink()
    server.files["names.json"] = b"changed on the server"
    assert download.main(["Toy", "--root", str(tmp_path)]) == 2
    assert "wrong checksum" in capsys.readouterr().err
    assert not (tmp_path / "toy/names.json").exists()


def test_an_invalid_split_file_is_deleted(toy, server, tmp_path, capsys):
    for content, message in {
        b"<html>quota exceeded</html>": "is a page in HTML",
        b"quota exceeded": "isn't a JSON file",
        b'{"train": []}': "should list (1, 0, 1) images",
    }.items():
        server.files["split.json"] = content
        assert download.main(["Toy", "--root", str(tmp_path)]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "toy/split.json").exists()


def test_the_error_of_a_dead_link_names_where_to_put_the_file(toy, server, tmp_path, capsys):
    del server.files["names.json"]
    assert download.main(["Toy", "--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: can't download")
    assert str(tmp_path / "toy/names.json") in error


def test_archives_cant_write_outside_their_folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    archive = folder / "evil.tar.gz"
    archive.write_bytes(tar({"../../escaped": b"x"}))
    with pytest.raises(InputError, match="can't be unpacked"):
        download.unpack(archive, folder)
    with zipfile.ZipFile(folder / "evil.zip", "w") as content:
        content.writestr("../../escaped", "x")
    with pytest.raises(InputError, match="outside the folder"):
        download.unpack(folder / "evil.zip", folder)
    assert not list(tmp_path.glob("escaped"))
    assert not (tmp_path.parent / "escaped").exists()
    (folder / "cut.tar.gz").write_bytes(tar({"a": b"x" * 1000})[:60])
    with pytest.raises(InputError, match="Run the command again"):
        download.unpack(folder / "cut.tar.gz", folder)


def test_find_takes_class_and_config_names(capsys):
    assert download.find("dtd").__name__ == download.find("DescribableTextures").__name__
    assert download.main(["no_such_data"]) == 2
    assert "Caltech101" in capsys.readouterr().err


UNPUBLISHED = ("Folder", "MultiTask", "Two")  # data sets of the user's own images


def published_names() -> list[str]:
    load_plugins("datasets")
    return [name for name in DATASET_REGISTRY.registered_names() if name not in UNPUBLISHED]


@pytest.mark.parametrize("name", published_names())
def test_every_published_data_set_says_how_to_get_it(name):
    dataset = download.find(name)
    assert download.downloads_of(dataset) or download.instructions_of(dataset)
    for item in download.downloads_of(dataset):
        assert item.url.startswith("http")
        assert not item.target or Path(item.target).suffix
        assert not item.md5 or len(item.md5) == 32
