"""Uploads an exported classifier to the Hugging Face hub.

    python push.py my_classifier OWNER/NAME
    python predict.py hf-hub:OWNER/NAME photo.jpg

The code is in `inference/hub.py`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dassl.utils.command_line import report_errors
from inference.hub import push


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Upload an exported classifier to the Hugging Face hub.")
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="folder that export.py has written")
    add("name", metavar="OWNER/NAME", help="repository, which is made if it is missing")
    add("--private", action="store_true", help="make a private repository")
    add("--debug", action="store_true", help="show the full traceback if an error occurs")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Execute the command line `argv` and return the exit code: 0 for success, 2 for an error."""
    args = parse_arguments(argv)

    def job() -> None:
        address = push(Path(args.folder), args.name, args.private)
        print(f"Uploaded to {address}. To use it: python predict.py hf-hub:{args.name} IMAGE")

    return report_errors(job, args.debug)


if __name__ == "__main__":
    sys.exit(main())
