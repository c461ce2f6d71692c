"""Downloads from servers that fail, lie or attack: one error, nothing outside the folder, and a retry works."""

import contextlib
import errno
import gzip
import io
import shutil
import socketserver
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest
from fuzzing import examples, limited, mutated
from hypothesis import given
from hypothesis import strategies as st
from test_download import md5, tar

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError
from datasets.base import Download, FewShotDataset
from tools import download

GOOD = {"images/a/1.jpg": b"1" * 2000, "images/b/2.jpg": b"2" * 2000}


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def linked(target: str, kind: bytes = tarfile.SYMTYPE) -> bytes:
    """A tar archive with a link (or a device), and a file below the link."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo("images")
        info.type, info.linkname = kind, target
        archive.addfile(info)
        inner = tarfile.TarInfo("images/escaped")
        inner.size = 1
        archive.addfile(inner, io.BytesIO(b"x"))
    return file.getvalue()


class RawServer:
    """Answers each request with `answers`, then honestly. An answer is bytes, and a number is a pause in seconds."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.answers: list[list[bytes | float]] = []
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                path = self.rfile.readline().split()[1].decode().strip("/")
                while self.rfile.readline().strip():
                    pass
                answer = outer.answers.pop(0) if outer.answers else [honest(outer.files[path])]
                with contextlib.suppress(ConnectionError):  # the client may close the connection early
                    for part in answer:
                        time.sleep(part) if isinstance(part, float) else self.wfile.write(part)

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/{name}"


def honest(content: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content) if length is None else length}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + content


@pytest.fixture(scope="module")
def server():
    server = RawServer()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)


def register(server: RawServer, monkeypatch: pytest.MonkeyPatch, ending: str, checked: bool) -> None:
    """Register a data set with one archive, whose checksum is known if `checked`."""
    content = server.files[f"data{ending}"] = zipped(GOOD) if ending == ".zip" else tar(GOOD)

    class Hostile(FewShotDataset):
        dataset_dir = "toy"
        downloads = (Download(server.url(f"data{ending}"), md5=md5(content) if checked else ""),)

    monkeypatch.setitem(DATASET_REGISTRY._objects, "Hostile", Hostile)


def answers(content: bytes) -> dict[str, list[bytes | float]]:
    """Answers of bad servers, by their fault."""
    page = b"<!DOCTYPE html><html><body>quota exceeded</body></html>"
    return {
        "page": [honest(page, "Content-Type: text/html")],
        "page without head": [honest(b"\n <HTML>" + page)],
        "empty": [honest(b"")],
        "nothing": [],
        "404": [honest(b"gone", status="404 Not Found")],
        "500": [honest(b"", status="500 Oops")],
        "no status": [b"hello\r\n\r\n"],
        "wrong status": [b"HTTP/1.1 abc\r\n\r\n"],
        "redirect to a file": [honest(b"", "Location: file:///etc/passwd", status="302 Found")],
        "redirect to itself": [honest(b"", "Location: /data.zip", status="302 Found")],
        "cut": [honest(content[:1000], length=len(content))],
        "too long": [honest(content + b"x" * 100, length=len(content))],
        "wrong length": [honest(content, length=10**12)],
        "negative length": [honest(content, length=-5)],
        "two lengths": [honest(content, "Content-Length: 3")],
        "chunks": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\nabc"],
        "no gzip": [honest(content, "Content-Encoding: gzip")],
        "gzip": [honest(gzip.compress(content), "Content-Encoding: gzip")],
        "stalls at the head": [b"HTTP/1.1 200 OK\r\n", 0.5],
        "stalls in the body": [honest(content)[:500], 0.5],
        "long header": [b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000],
        "wrong range": [honest(content, "Content-Range: bytes 7-9/3", status="206 Partial Content")],
        "start of gzip": [honest(b"\x1f\x8b")],
        "noise": [honest(bytes(range(256)) * 10)],
        "leaves the folder": [honest(tar({"../../escaped": b"x"}))],
        "absolute path": [honest(tar({"/tmp/escaped-by-tar": b"x"}))],
        "zip leaves the folder": [honest(zipped({"../../escaped": b"x", "/escaped": b"x"}))],
        "link": [honest(linked("../../.."))],
        "link to a root": [honest(linked("/"))],
        "hard link": [honest(linked("../../escaped", tarfile.LNKTYPE))],
        "pipe": [honest(linked("", tarfile.FIFOTYPE))],
        "encrypted": [honest(content.replace(b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01"))],
    }


def run_twice(root: Path, capsys: pytest.CaptureFixture) -> str:
    """Download from the bad server, then from the honest one. Return the error of the first call."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    before = {path.name for path in root.parent.iterdir()}
    capsys.readouterr()
    with limited():
        code = download.main(["Hostile", "--root", str(root / "data")])
    err = capsys.readouterr().err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in err
    assert (code, len(errors)) in ((0, 0), (1, 1), (2, 1))
    assert {path.name for path in root.parent.iterdir()} == before
    assert {path.name for path in root.iterdir()} <= {"data"}
    for _ in range(3):  # a partial download may have to be dropped first
        if download.main(["Hostile", "--root", str(root / "data")]) == 0:
            break
    return "".join(errors)


@pytest.mark.parametrize("fault", answers(b""))
@pytest.mark.parametrize(("ending", "checked"), [(".zip", False), (".tar.gz", True)])
def test_after_a_bad_server_the_next_call_completes(fault, ending, checked, server, tmp_path, monkeypatch, capsys):
    register(server, monkeypatch, ending, checked)
    answer = answers(server.files[f"data{ending}"])[fault]
    server.answers = [answer, answer]
    run_twice(tmp_path / "root", capsys)
    server.answers = []
    for name, content in GOOD.items():
        assert (tmp_path / "root/data/toy" / name).read_bytes() == content
    assert not list(tmp_path.rglob("escaped*"))
    assert not Path("/tmp/escaped-by-tar").exists()


@given(data=st.data())
@examples(5, 60)
def test_generated_servers(data, server, tmp_path_factory, capsys):
    ending = data.draw(st.sampled_from([".zip", ".tar.gz"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "TIMEOUT", 0.2)
        is_checked = data.draw(st.booleans())
        register(server, patch, ending, is_checked)
        content = server.files[f"data{ending}"]
        fault = st.sampled_from(
            [b"".join(p for p in parts if isinstance(p, bytes)) for parts in answers(content).values()]
        )
        raw = st.one_of(mutated(content).map(honest), fault.filter(len).flatmap(mutated))
        server.answers = [[data.draw(raw)] for _ in range(data.draw(st.integers(1, 3)))]
        root = tmp_path_factory.getbasetemp() / "generated"
        run_twice(root, capsys)
        server.answers = []
        for name, good in GOOD.items() if is_checked else ():
            assert (root / "data/toy" / name).read_bytes() == good


# ---- a good archive is kept ----


def test_a_full_disk_keeps_the_archive(tmp_path, monkeypatch):
    archive = tmp_path / "good.tar.gz"
    archive.write_bytes(tar(GOOD))

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "makefile", full)
        with pytest.raises(OSError, match=r"the disk is full \(\d+ MB free\)"):
            download.unpack(archive, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["good.tar.gz"]
    download.unpack(archive, tmp_path)
    assert (tmp_path / "images/a/1.jpg").is_file()


def test_a_python_without_safe_unpacking_keeps_the_archive(tmp_path, monkeypatch):
    archive = tmp_path / "good.tar.gz"
    archive.write_bytes(tar(GOOD))
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(InputError, match=r"needs Python 3\.11\.4"):
        download.unpack(archive, tmp_path)
    assert archive.is_file()


def test_two_downloads_at_once_share_one_archive(server, tmp_path, monkeypatch):
    register(server, monkeypatch, ".zip", False)
    slow = honest(server.files["data.zip"])
    server.answers = [[slow[:800], 0.1, slow[800:]]]
    get = download.Download(server.url("data.zip"))
    threads = [threading.Thread(target=download.get, args=(get, tmp_path / "toy")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not server.answers
    assert (tmp_path / "toy/images/a/1.jpg").read_bytes() == GOOD["images/a/1.jpg"]
    assert not list(tmp_path.rglob("*.part"))


def test_several_partial_downloads_do_no_harm(server, tmp_path, monkeypatch):
    register(server, monkeypatch, ".zip", False)
    folder = tmp_path / "toy/.downloads"
    folder.mkdir(parents=True)
    for name in ("aaaaaaaa", "bbbbbbbb"):
        (folder / f"data.zip{name}.part").touch()
    download.get(download.Download(server.url("data.zip")), tmp_path / "toy")
    assert not list(folder.glob("*.part"))
