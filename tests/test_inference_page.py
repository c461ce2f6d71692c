"""The web page of predict.py --serve: what it accepts, what it shows, and that no path of this machine leaves it."""

import base64
import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import predict
from dassl.utils import InputError
from inference import page, page_html
from inference.page import ServedRun, entered_names, load_runs, uploads
from inference.page_examples import find_examples, gallery_of
from inference.page_html import answer
from inference.page_server import MAX_REQUEST, refusal


@pytest.fixture(scope="module")
def runs(trained):
    """Runs of CoOp and of the linear probe, whose classes are fixed."""
    return load_runs([str(trained(trainer, layers=1)[0]) for trainer in ("CoOp", "LinearProbe")], device="cpu")


@pytest.fixture
def with_data(trained):
    """The runs' data are where they were in training."""
    moved = [trained(trainer, layers=1)[1] for trainer in ("CoOp", "LinearProbe")]
    for folder in moved:
        folder.rename(folder.with_name("data"))
    yield
    for folder in moved:
        folder.with_name("data").rename(folder)


def sent(*files: tuple[str, bytes]) -> dict:
    """The message of the browser for these files."""
    encoded = [
        {"name": name, "size": len(data), "data": base64.b64encode(data).decode() or None} for name, data in files
    ]
    return {"files": encoded, "more": 0}


def png(size=(40, 32), mode="RGB", color=None) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, color or 0).save(file, "PNG")
    return file.getvalue()


def shown(runs, message, names=("", ""), topk=3) -> str:
    return answer(runs, lambda: uploads(message), names[: len(runs)], topk)


def assert_has_no_path(text: str, *folders: Path) -> None:
    for path in (ROOT, Path.home(), Path(sys.prefix), *folders):
        assert str(path) not in text


# ---- what is accepted ----


def test_files_are_limited_in_number_and_size(monkeypatch):
    monkeypatch.setattr(page, "MAX_BYTES", 100)
    monkeypatch.setattr(page, "MAX_TOTAL", 150)
    monkeypatch.setattr(page, "MAX_IMAGES", 5)
    message = sent(("a", b"x" * 100), ("b", b"x" * 101), ("c", b""), ("d", b"x" * 50), ("e", b"x"), ("f", b"x"))
    message["more"] = 2
    found = uploads(message)
    assert [each if isinstance(each, InputError) else each.name for each in (found[0], found[3])] == ["a", "d"]
    errors = [str(each) for each in found if isinstance(each, InputError)]
    for text, line in zip(
        ("b has", "image c: the file is empty", "e is left out", "3 more images"), errors, strict=True
    ):
        assert text in line


def test_a_size_that_the_browser_claims_is_not_believed(monkeypatch):
    monkeypatch.setattr(page, "MAX_BYTES", 100)
    message = sent(("a", b"x" * 101))
    message["files"][0]["size"] = 1
    assert isinstance(uploads(message)[0], InputError)


@pytest.mark.parametrize("message", [None, {}, {"files": [1]}, {"files": [{"name": "a", "data": "%"}]}])
def test_another_message_is_one_line(message):
    with pytest.raises(InputError, match="can't be read"):
        uploads(message)


def test_a_shown_name_is_short_and_has_no_folder():
    assert page.shown_name("C:\\Users\\me\\a.png") == page.shown_name("/home/me/a.png") == "a.png"
    assert page.shown_name("a\nb/") == "image"
    assert len(page.shown_name("x" * 500)) == page.MAX_FILE_NAME


def test_entered_names():
    assert entered_names(" cat \n\n dog\n") == ["cat", "dog"]
    assert entered_names(" \n") == []
    for text, reason in (
        ("cat", "only one"),
        ("cat\ncat", "'cat' occurs twice"),
        (f"cat\n{'x' * 101}", "101 characters"),
        ("\n".join(map(str, range(1001))), "1001 class names"),
    ):
        with pytest.raises(InputError, match=reason):
            entered_names(text)


# ---- what is shown ----


def test_two_runs_answer_side_by_side_and_a_bad_file_is_one_line(runs, own_data):
    good = (own_data / "grey/0.png").read_bytes()
    files = ("good.png", good), ("bad.jpg", b"no image"), ("big.png", png((6000, 5000), "1")), ("last.png", good)
    text = shown(runs, sent(*files))
    cards = text.split("<article")
    assert len(cards) == 3, "two images can be read"
    assert cards[1].count('class="problem"') == 2
    assert "can&#x27;t read the image bad.jpg: it is none of JPEG" in cards[1]
    assert "6000 x 5000 pixels, more than 25 million pixels" in cards[1]
    for run, part in zip(runs, cards[1].split("<section")[1:], strict=True):
        (expected,) = run.classifier.predict(own_data / "grey/0.png", topk=3)
        assert run.title in part
        assert part.count("<li>") == 3
        for name, score in zip(expected.classes, expected.scores, strict=True):
            assert f'{name}</span><span class="score">{100 * score:.1f}%' in part
    assert_has_no_path(text, *(Path(run.source) for run in runs))


def test_other_names_are_used_where_the_method_can(runs, own_data):
    message = sent(("good.png", (own_data / "grey/0.png").read_bytes()))
    first, second = shown(runs, message, ("a cat\na dog", "a cat\na dog")).split("<section")[1:]
    expected = ServedRun(runs[0].source, device="cpu").with_names("a dog\na cat").predict(own_data / "grey/0.png", 1)
    assert f'{expected[0].classes[0]}</span><span class="score">{100 * expected[0].scores[0]:.1f}%' in first
    assert "grey" not in first
    assert "a cat" not in second
    assert runs[0].fixed == ""
    assert runs[1].fixed == "LinearProbe can't use other class names."
    assert runs[1].fixed.replace("'", "&#x27;") in page_html.heading(runs[1])
    assert runs[0].shown_names.split("\n") == runs[0].classifier.classes
    with pytest.raises(InputError, match="can't use other class names"):
        ServedRun(runs[1].source, ["a cat", "a dog"], "cpu")


def test_the_run_s_own_names_may_exceed_the_limits(runs, monkeypatch):
    monkeypatch.setattr(page, "MAX_NAMES", 1)
    for run in runs:
        assert run.with_names(run.shown_names) is run.with_names("") is run.classifier
    with pytest.raises(InputError, match="at most 1"):
        runs[0].with_names("a cat\na dog")


def test_wrong_names_are_one_line_without_a_path(runs, trained, tmp_path, capsys):
    message = sent(("good.png", png()))
    assert "occurs twice" in shown(runs, message, ("cat\ncat", ""))
    text = shown(runs, message, ("cat\n" + "龘" * 60, ""))
    assert "the class name" in text
    assert "too long" in text
    (copy,) = load_runs([str(shutil.copytree(runs[0].source, tmp_path / "secret"))], device="cpu")
    next((tmp_path / "secret").glob("*/model.pth.tar-*")).write_bytes(b"damaged")
    text = shown([copy], message, ("cat\ndog",))
    assert "The terminal shows the reason" in text
    assert str(tmp_path) in capsys.readouterr().err
    assert_has_no_path(text, tmp_path)


def test_names_are_neither_tags_nor_templates(runs):
    text = shown(runs[:1], sent(("<b>${1}`.png", png())), ("<script>\n{{constructor}}",))
    assert "<script" not in text
    assert "<b>" not in text
    assert not set("${}`") & set(text)


def test_an_unexpected_error_is_one_line(runs, capsys):
    def fail() -> list:
        raise RuntimeError(f"somewhere in {ROOT}")

    assert_has_no_path(answer(runs, fail, ["", ""], 3))
    assert str(ROOT) in capsys.readouterr().err


# ---- examples ----


def test_examples_are_the_run_s_right_and_wrong_test_images(runs, with_data):
    run = runs[0]
    saved = np.load(Path(run.source) / "predictions.npz")
    is_right = dict(zip(saved["impath"].tolist(), saved["logits"].argmax(1) == saved["label"], strict=True))
    gallery = gallery_of(run)
    assert len(gallery.examples) == len(is_right), "no more than 6 right and 6 wrong images"
    for example in gallery.examples:
        assert example.is_right == is_right[f"{example.path.parent.name}/{example.path.name}"]
        assert example.score == pytest.approx(run.classifier.predict(example.path, 1)[0].scores[0], abs=1e-4)
    text = page_html.gallery(gallery)
    assert text.count("<button") == len(is_right)
    assert text.count('class="example right"') == sum(is_right.values())
    assert_has_no_path(text, Path(run.source).parent)
    last = len(is_right) - 1
    assert gallery.examples[last].predicted in answer(runs, lambda: gallery.chosen({"index": last}), ["", ""], 1)
    for index in (-1, len(is_right), "0"):
        assert "<article" not in answer(runs, lambda index=index: gallery.chosen({"index": index}), ["", ""], 1)
    gallery.examples[0].path.rename(gallery.examples[0].path.with_suffix(".gone"))
    try:
        text = answer(runs, lambda: gallery.chosen({"index": 0}), ["", ""], 1)
        assert "can&#x27;t read the image of the example" in text
        assert_has_no_path(text, Path(run.source).parent)
        assert len(gallery_of(run).examples) == len(is_right) - 1
    finally:
        gallery.examples[0].path.with_suffix(".gone").rename(gallery.examples[0].path)


def test_without_examples_the_page_says_why(runs, tmp_path, with_data):
    run = shutil.copytree(runs[0].source, tmp_path / "run")
    record = runs[0].classifier.record

    def reason() -> str:
        with pytest.raises(InputError) as found:
            find_examples(str(run), record)
        assert_has_no_path(str(found.value), tmp_path)
        return str(found.value)

    arrays = dict(np.load(run / "predictions.npz"))
    np.savez(run / "predictions.npz", **arrays | {"impath": np.array(["gone/0.png"] * len(arrays["impath"]))})
    assert "test images aren't where they were" in reason()
    np.savez(run / "predictions.npz", **arrays | {"logits": arrays["logits"][:, :1], "label": 0 * arrays["label"]})
    assert "doesn't fit" in reason()
    (run / "predictions.npz").write_bytes(b"damaged")
    assert "is damaged" in reason()
    (run / "predictions.npz").unlink()
    assert "TEST.SAVE_PREDICTIONS" in reason()


# ---- the command line and the server ----


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["."], "required: IMAGES"),
        ([".", "x.jpg", "--serve"], "--serve takes no IMAGES"),
        ([".", "x.jpg", "--compare", "y"], "--compare needs --serve"),
        ([".", "--serve", "--output", "y"], "--output can't be used with --serve"),
        (["nowhere", "--serve"], "nowhere isn't a folder"),
        ([".", "--serve", "--compare", "nowhere"], "nowhere isn't a folder"),
        ([".", "--serve"], 'pip install -e ".[serve]"'),
    ],
)
def test_a_wrong_word_is_one_line(words, message, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)  # as if it weren't installed
    try:
        code = predict.main(words)
    except SystemExit as stop:  # argparse
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 0),
        ("GET", "/assets/index.js", {}, 0),
        ("GET", "/gradio_api/file=/etc/passwd", {}, 404),
        ("GET", "/gradio_api/proxy=http://example.org", {}, 404),
        ("POST", "/gradio_api/upload", {"content-length": "1"}, 404),
        ("GET", "/config/../gradio_api/upload", {}, 404),
        ("POST", "/gradio_api/queue/join", {"content-length": "100"}, 0),
        ("POST", "/gradio_api/queue/join", {"content-length": str(MAX_REQUEST + 1)}, 413),
        ("POST", "/gradio_api/queue/join", {"transfer-encoding": "chunked"}, 411),
    ],
)
def test_the_server_refuses_what_the_page_does_not_need(method, path, headers, status):
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert refusal({"type": "http", "method": method, "path": path, "headers": encoded}) == status
