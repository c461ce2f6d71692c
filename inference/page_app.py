"""The layout of the web page of `predict.py --serve`, and what its events do. `inference/page_server.py` shows it.

Gradio's own upload stores files on this machine and sends their paths to the browser. So the drop zone (page.js) sends
images inside the messages of its event. Nothing is stored.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import gradio as gr

from dassl.utils.tools import IMAGE_FORMATS
from inference import page, page_html
from inference.page import ServedRun, uploads
from inference.page_examples import gallery_of
from inference.page_html import answer

MAX_WAITING = 10  # requests that wait; each may hold the images of a user
_HERE = Path(__file__).parent
CSS = (_HERE / "page.css").read_text(encoding="utf-8")
_DROP = (_HERE / "page.js").read_text(encoding="utf-8")
_SELECT = """element.addEventListener("click", (event) => {
  const example = event.target.closest("[data-index]");
  if (!example) return;
  trigger("select", {index: Number(example.dataset.index)});
  document.querySelector("#results").scrollIntoView({behavior: "smooth", block: "center"});
});"""
_ZONE = """<div class="zone"><label><b>Drop images here, or click to choose</b>
<small>{formats}</small><small>at most {images} images, {size} each</small>
<input type="file" multiple accept="image/*" aria-label="Choose images"></label>
<div class="again"><button type="button" disabled>Classify again</button><output></output></div></div>"""


def build_page(runs: Sequence[ServedRun], topk: int) -> gr.Blocks:
    """Return the page. `topk` is the number of classes per image that is shown at first."""

    def on_drop(event: gr.EventData, topk: float, *names: str) -> str:
        return answer(runs, lambda: uploads(event._data), names, int(topk))

    with gr.Blocks(title="Classify images", analytics_enabled=False) as blocks:
        _html("<h1>Classify images</h1>")
        with gr.Row():
            with gr.Column(scale=3, min_width=280):
                zone = _drop_zone()
                top = gr.Slider(1, page.MAX_TOPK, value=min(topk, page.MAX_TOPK), step=1, label="Classes per image")
            names = [_run_column(run) for run in runs]
        results = gr.HTML('<p class="empty">The answers appear here.</p>', apply_default_css=False, elem_id="results")
        _connect(zone.upload, on_drop, [top, *names], results)
        for run in runs:
            _show_gallery(run, runs, [top, *names], results)
    blocks.queue(max_size=MAX_WAITING, api_open=False)
    return blocks


def _show_gallery(
    run: ServedRun, runs: Sequence[ServedRun], inputs: Sequence[gr.Slider | gr.Textbox], results: gr.HTML
) -> None:
    """Show the examples of a run. A click classifies an example with all runs."""
    gallery = gallery_of(run)
    _html(f"<h2>Examples: {page_html.escaped(run.title)}</h2>")
    if gallery.reason:
        _html(f"<p>No examples: {page_html.escaped(gallery.reason)}.</p>")
        return
    _html("<p>Test images of the run, with the class that it gave them. Click an image to classify it.</p>")

    def on_select(event: gr.EventData, topk: float, *names: str) -> str:
        return answer(runs, lambda: gallery.chosen(event._data), names, int(topk))

    shown = gr.HTML(page_html.gallery(gallery), js_on_load=_SELECT, apply_default_css=False)
    _connect(shown.select, on_select, inputs, results)


def _html(text: str) -> None:
    gr.HTML(text, apply_default_css=False, elem_classes="text")


def _drop_zone() -> gr.HTML:
    text = _ZONE.format(formats=", ".join(IMAGE_FORMATS), images=page.MAX_IMAGES, size=page.megabytes(page.MAX_BYTES))
    return gr.HTML(
        html_template=text,
        js_on_load=_DROP,
        apply_default_css=False,
        max_images=page.MAX_IMAGES,  # these three are `props` in page.js
        max_bytes=page.MAX_BYTES,
        max_total=page.MAX_TOTAL,
    )


def _run_column(run: ServedRun) -> gr.Textbox:
    """Show a run with its class names, and return the box in which they are edited."""
    with gr.Column(scale=2, min_width=280):
        _html(page_html.heading(run))
        label = "Class names" if run.fixed else "Edit the class names"
        with gr.Accordion(f"{label} ({len(run.classifier.classes)})", open=False):
            return gr.Textbox(
                "\n".join(run.classifier.classes) if run.fixed else run.shown_names,
                label="One name per line",
                info="" if run.fixed else "Then classify again. An empty box means the run's own classes.",
                lines=6,
                max_lines=10,
                interactive=not run.fixed,
            )


def _connect(
    event: Callable[..., object],
    function: Callable[..., str],
    inputs: Sequence[gr.Slider | gr.Textbox],
    results: gr.HTML,
) -> None:
    """Show in `results` what `function` returns for an event."""
    # Events with the same concurrency_id run one after another, so no classifier is loaded or used twice at once.
    event(
        function,
        [*inputs],
        results,
        concurrency_id="classifiers",
        concurrency_limit=1,
        trigger_mode="always_last",
        show_progress="full",
        api_visibility="private",
    )
