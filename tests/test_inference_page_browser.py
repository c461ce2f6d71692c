"""The web page of predict.py --serve in a browser, with Gradio. Nothing is asked of the network."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import ROOT
from PIL import Image

from dassl.utils import InputError
from inference.page import load_runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(trained):
    """(address of a page with CoOp and the linear probe, foreign addresses that the server asked, folders of the runs).

    The test images of CoOp are there, and those of the linear probe aren't.
    """
    pytest.importorskip("gradio")
    from inference.page_server import PageServer

    (run, moved), (other, _) = trained("CoOp", layers=1), trained("LinearProbe", layers=1)
    asked = []
    connect = socket.socket.connect

    def noted(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
            asked.append(address)
        return connect(self, address)

    moved.rename(moved.with_name("data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", noted)
        patch.setattr(os, "environ", os.environ.copy())
        patch.setenv("GRADIO_SHARE", "True")
        patch.setenv("GRADIO_ALLOWED_PATHS", "/")
        with PageServer(load_runs([str(run), str(other)], device="cpu"), topk=2) as address:
            yield address, asked, (run.parent, other.parent)
    moved.with_name("data").rename(moved)


def status(address: str, method: str, path: str, host: str = "") -> int:
    """The status with which the server answers."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
    connection.request(method, path, body=b"x" if method == "POST" else None, headers={"Host": host} if host else {})
    try:
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_server_is_closed_but_for_the_page(served):
    address, asked, _ = served
    port = urlsplit(address).port
    assert status(address, "GET", "/") == 200
    assert status(address, "GET", "/", host="example.org") == 400
    assert status(address, "POST", "/gradio_api/upload") == 404
    assert status(address, "GET", f"/gradio_api/file={ROOT}/setup.py") == 404
    own = socket.gethostbyname(socket.gethostname())
    if not own.startswith("127."):
        with pytest.raises(ConnectionError):
            socket.create_connection((own, port), timeout=5)
        asked.clear()
    from inference.page_server import PageServer

    with pytest.raises(InputError, match=f"port {port}"):
        PageServer([], 3, port=port).__enter__()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server(how, trained):
    pytest.importorskip("gradio")
    command = [sys.executable, ROOT / "predict.py", trained("CoOp", layers=1)[0], "--serve", "--device", "cpu"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background jobs ignore SIGINT
    try:
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    lines = iter(server.stderr.readline, "")
    assert any(line.startswith("The page is at http://127.0.0.1:") for line in lines)
    server.send_signal(how)
    assert server.communicate(timeout=60)[1].splitlines()[-1] == "stopped"
    assert server.returncode == 0


@pytest.fixture
def files(own_data, tmp_path):
    """An image, a file that is no image, and an image of 30 megapixels."""
    shutil.copy(own_data / "grey/0.png", tmp_path / "a long name of a photo from the last holidays.png")
    (tmp_path / "broken.jpg").write_text("no image")
    Image.new("1", (6000, 5000)).save(tmp_path / "large.png")
    return sorted(tmp_path.iterdir())


def no_scroll(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_classifies_images(served, browser, files, width):
    address, asked, folders = served
    requests, answers, errors = [], [], []
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.set_default_timeout(20_000)
    page.on("request", lambda request: requests.append(request.url))
    page.on("response", lambda response: answers.append(response))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector(".zone input", state="attached")
    assert no_scroll(page)
    page.set_input_files(".zone input", files)
    page.wait_for_selector(".card")
    assert page.locator(".card").count() == 1
    lines = page.locator(".problem").all_inner_texts()
    assert ["broken.jpg" in lines[0], "more than 25 million pixels" in lines[1], len(lines)] == [True, True, 2]
    assert page.locator(".answer").count() == 2
    assert page.locator(".answer li").count() == 4
    bar, whole = (page.locator(name).first.bounding_box()["width"] for name in (".bar i", ".bar"))
    assert float(page.locator(".score").first.inner_text().rstrip("%")) == pytest.approx(100 * bar / whole, abs=1)
    assert no_scroll(page)

    assert "LinearProbe can't use other class names" in page.inner_text("body")
    page.get_by_text("Edit the class names").click()
    page.locator("textarea:not([disabled])").fill("a cat\na dog\n<b>{{x}}</b>")
    page.get_by_role("button", name="Classify again").click()
    page.wait_for_selector(".answer .name:text('a dog'), .answer .name:text('a cat')")
    page.locator("textarea:not([disabled])").fill("a cat\na cat")
    page.get_by_role("button", name="Classify again").click()
    page.wait_for_selector("text='a cat' occurs twice")
    page.locator("textarea:not([disabled])").fill("")
    page.locator(".example.wrong, .example.right").first.click()
    page.wait_for_selector(".card")
    assert "the run's test images aren't where they were" in page.inner_text("body")
    assert no_scroll(page)

    assert errors == []
    assert asked == []
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    secret = [*map(str, folders), str(ROOT), sys.prefix, os.environ["GRADIO_TEMP_DIR"], str(Path(files[0]).parent)]
    texts = [page.content(), *(each.text() for each in answers if not {"assets", "queue"} & set(each.url.split("/")))]
    assert [path for path in secret for text in texts if path in text] == []
    page.close()
