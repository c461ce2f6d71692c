"""Classifies images with the prompts of a run, or with an exported classifier.

    python predict.py output/few_shot/.../seed1 photo.jpg
    python predict.py RUN photos/ "more/*.jpg" --topk 3 --format csv --output names.csv
    python predict.py RUN photo.jpg --classes "cat,dog"
    python predict.py RUN --serve --compare RUN2

The code is in `inference/`. Errors in flags and paths are reported before torch is imported.
"""

import argparse
import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from dassl.utils.command_line import report_errors
from dassl.utils.errors import InputError
from dassl.utils.files import write_atomically
from inference import output
from inference.words import class_names, find_images


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Classify images with trained prompts.")
    add = parser.add_argument
    add("run", metavar="RUN", help="folder of a run or of an exported classifier, or hf-hub:OWNER/NAME")
    add("images", metavar="IMAGES", nargs="*", help="files, folders (with subfolders), globs, or - for paths on stdin")
    add("--topk", type=int, default=3, help="number of classes per image (default: 3)")
    add("--format", choices=output.FORMATS, default="table", help="default: table")
    add("--output", default="", metavar="FILE", help="write to this file instead of the standard output")
    add("--classes", default="", help='other classes, as "cat,dog", or a text file with a class name per line')
    add("--batch", type=int, default=32, help="number of images that are computed at once (default: 32)")
    add("--device", default=None, help="cpu, cuda, cuda:1 or mps (default: the fastest device of this machine)")
    add("--serve", action="store_true", help="open a web page on this machine to drop images on")
    add("--compare", default="", metavar="RUN2", help="with --serve: show a second run beside the first")
    add("--host", default="127.0.0.1", help="with --serve: address to bind to (default: 127.0.0.1)")
    add("--port", type=int, default=None, help="with --serve: port (default: the first free port from 7860)")
    add("--debug", action="store_true", help="show the full traceback if an error occurs")
    args = parser.parse_intermixed_args(argv)
    for name in ("topk", "batch"):
        if vars(args)[name] < 1:
            parser.error(f"--{name} must be at least 1")
    if args.port is not None and not 0 < args.port < 2**16:
        parser.error("--port must be from 1 to 65535")
    given = {name for name, value in vars(args).items() if value != parser.get_default(name)}
    if args.serve:
        for name in sorted(given & {"output", "format", "batch"}):
            parser.error(f"--{name} can't be used with --serve")
        if args.images:
            parser.error("--serve takes no IMAGES")
    else:
        for name in sorted(given & {"compare", "host", "port"}):
            parser.error(f"--{name} needs --serve")
        if not args.images:
            parser.error("the following arguments are required: IMAGES")
    return args


@contextlib.contextmanager
def opened(file: str) -> Iterator[TextIO]:
    """A context manager that yields the stream to write to. A file appears only when it is complete."""
    if not file:
        yield sys.stdout
        return
    with write_atomically(file) as unfinished, open(unfinished, "w", encoding="utf-8", newline="") as stream:
        yield stream


def predict(args: argparse.Namespace) -> int:
    """Classify the images and write the predictions. Returns the number of images that can't be read."""
    from tqdm import tqdm

    check_run(args.run)
    images = find_images(args.images, sys.stdin)
    names = class_names(args.classes)
    from inference.classifier import Classifier

    classifier = Classifier.load(args.run, names, args.device)
    unreadable = 0
    shows_rows = not args.output and sys.stdout.isatty()  # then the rows show the progress
    with opened(args.output) as stream:
        writer = output.FORMATS[args.format](stream, images, classifier.classes, args.topk)
        predictions = classifier.predict_readable(images, args.topk, args.batch)
        hidden = True if shows_rows or len(images) < 100 else None  # None: hidden if stderr isn't a terminal
        for prediction in tqdm(predictions, total=len(images), unit="image", disable=hidden):
            if isinstance(prediction, InputError):
                print(f"error: {prediction}", file=sys.stderr)
                unreadable += 1
            else:
                writer.write(prediction)
        writer.close()
    return unreadable


def check_run(run: str) -> None:
    """Raise InputError if RUN is neither a folder nor a name on the hub."""
    if not run.startswith("hf-hub:") and not Path(run).expanduser().is_dir():
        raise InputError(f"{run} isn't a folder. Name the folder of a run or of an exported classifier")


def serve(args: argparse.Namespace) -> None:
    """Show the web page until the user stops it."""
    sources = [args.run, *filter(None, [args.compare])]
    for source in sources:
        check_run(source)
    if importlib.util.find_spec("gradio") is None:
        raise InputError('the web page needs gradio: pip install -e ".[serve]" in the project')
    names = class_names(args.classes)
    from inference.page import load_runs
    from inference.page_server import serve_page

    serve_page(load_runs(sources, names, args.device), args.topk, args.host, args.port)


def main(argv: Sequence[str] | None = None) -> int:
    """Execute the command line `argv` and return the exit code. If `argv` is None, `sys.argv` is used.

    The exit code is 0 for success, 1 if an image can't be read, and 2 for another wrong input.
    """
    args = parse_arguments(argv)
    if args.serve:
        return report_errors(lambda: serve(args), args.debug)
    unreadable: list[int] = []
    code = report_errors(lambda: unreadable.append(predict(args)), args.debug)
    return code or int(any(unreadable))


if __name__ == "__main__":
    sys.exit(main())
