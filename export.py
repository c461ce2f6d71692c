"""Exports the classifier of a run to a folder that needs nothing of this project.

    python export.py output/few_shot/.../seed1 --to my_classifier
    python my_classifier/classifier.py photo.jpg

The code is in `inference/export.py`. Errors in flags and paths are reported before torch is imported.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dassl.utils.command_line import report_errors
from dassl.utils.errors import InputError
from inference.words import class_names


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Export the classifier of a run.")
    add = parser.add_argument
    add("run", metavar="RUN", help="folder of a run")
    add("--to", required=True, metavar="FOLDER", help="folder to write to")
    add("--classes", default="", help='other classes, as "cat,dog", or a text file with a class name per line')
    add("--precision", choices=("fp32", "fp16"), default="fp32", help="of the image tower's weights (default: fp32)")
    add("--debug", action="store_true", help="show the full traceback if an error occurs")
    return parser.parse_args(argv)


def export(args: argparse.Namespace) -> None:
    """Export the run, and print what was written."""
    if not Path(args.run).is_dir():
        raise InputError(f"{args.run} isn't a folder. Name the folder of a run")
    classes = class_names(args.classes)
    from inference.export import export

    done = export(args.run, args.to, classes, args.precision)
    for name, difference in done.differences.items():
        print(f"{done.folder / name}: logits as the run's, the largest relative difference is {difference:.0e}")
    print(
        f"Exported {len(done.record.classes)} classes. To classify an image: python {done.folder}/classifier.py IMAGE"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Execute the command line `argv` and return the exit code: 0 for success, 1 or 2 for an error."""
    args = parse_arguments(argv)
    return report_errors(lambda: export(args), args.debug)


if __name__ == "__main__":
    sys.exit(main())
