"""The HTML of the web page's results and examples. Every text in it is escaped."""

import base64
import html
import io
import traceback
from collections.abc import Callable, Sequence

from PIL import Image

from dassl.utils import InputError
from inference.classifier import Prediction
from inference.page import Classified, ServedRun, Upload, classify
from inference.page_examples import Example, Gallery

#: Gradio's templates replace these characters in texts, so they are escaped as HTML's characters are.
_TEMPLATE = {ord(character): f"&#{ord(character)};" for character in "${}`"}


def escaped(text: str) -> str:
    """Return a text for HTML, in which it is neither a tag nor a part of a template."""
    return html.escape(text).translate(_TEMPLATE)


def problem(text: object) -> str:
    """Return an error as a line."""
    return f'<p class="problem" role="alert">{escaped(str(text))}</p>'


def answer(
    runs: Sequence[ServedRun], read: Callable[[], list[Upload | InputError]], names: Sequence[str], topk: int
) -> str:
    """Return the answers for images as HTML. Every error becomes a line.

    Args:
        read: returns the images, or raises InputError.
        names, topk: see `classify`.
    """
    try:
        return results(runs, list(classify(runs, read(), names, topk)))
    except InputError as error:
        return problem(error)
    except Exception:  # the message may contain paths, so only the terminal shows it
        traceback.print_exc()
        return problem("internal error. The terminal shows the reason")


def results(runs: Sequence[ServedRun], found: Sequence[Classified | InputError]) -> str:
    """Return a card for each image, and a line for each error, in their order."""
    return f'<div class="cards">{"".join(_card(runs, each) for each in found)}</div>'


def _card(runs: Sequence[ServedRun], each: Classified | InputError) -> str:
    if isinstance(each, InputError):
        return problem(each)
    titles = [run.title if len(runs) > 1 else "" for run in runs]
    answers = "".join(map(_answer, titles, each.answers))
    name = escaped(each.name)
    return (
        f'<article class="card"><figure><img src="{data_address(each.thumbnail)}" alt="{name}">'
        f'<figcaption title="{name}">{name}</figcaption></figure><div class="answers">{answers}</div></article>'
    )


def _answer(title: str, answer: Prediction) -> str:
    rows = "".join(
        f'<li><span class="name">{escaped(name)}</span><span class="score">{100 * score:.1f}%</span>'
        f'<span class="bar"><i style="width:{100 * score:.1f}%"></i></span></li>'
        for name, score in zip(answer.classes, answer.scores, strict=True)
    )
    title = f"<h3>{escaped(title)}</h3>" if title else ""
    return f'<section class="answer">{title}<ol>{rows}</ol></section>'


def heading(run: ServedRun) -> str:
    """Return the title and the details of a run, and why its classes are fixed."""
    fixed = f"<p>{escaped(run.fixed)}</p>" if run.fixed else ""
    return f'<div class="run"><h2>{escaped(run.title)}</h2><p>{escaped(run.details)}</p>{fixed}</div>'


def gallery(found: Gallery) -> str:
    """Return the examples as buttons. The attribute data-index is the example's place in the list."""
    pairs = zip(found.examples, found.thumbnails, strict=True)
    return f'<div class="gallery">{"".join(_example(n, *pair) for n, pair in enumerate(pairs))}</div>'


def _example(index: int, example: Example, thumbnail: Image.Image) -> str:
    mark = "right" if example.is_right else "wrong"
    truth = "" if example.is_right else f"<small>is {escaped(example.label)}</small>"
    return (
        f'<button type="button" class="example {mark}" data-index="{index}" title="Classify this image">'
        f'<img src="{data_address(thumbnail)}" alt="{escaped(example.label)}">'
        f"<b>{mark}: {escaped(example.predicted)}</b><span>{100 * example.score:.1f}%</span>{truth}</button>"
    )


def data_address(image: Image.Image) -> str:
    """Return an address that contains the image. So no file of this machine has an address."""
    content = io.BytesIO()
    image.save(content, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
