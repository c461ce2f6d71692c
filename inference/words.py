"""Turns the words of a command line into paths of images and into class names."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from dassl.utils.errors import InputError
from dassl.utils.files import IMG_EXTENSIONS, files_below

#: File name extensions of the images that are found in folders. A file that is named itself may have any.
EXTENSIONS = (*IMG_EXTENSIONS, ".gif")


def find_images(words: Iterable[str], lines: Iterable[str]) -> list[str]:
    """Return the paths of all images that `words` name, each once, in this order.

    Args:
        words: files, folders (searched with their subfolders), globs such as "photos/*.jpg", or "-".
        lines: paths, one per line, that replace the word "-".

    Raises:
        InputError: a folder or glob has no images, or nothing is named.
    """
    found: list[str] = []
    for word in words:
        if word == "-":
            found += [line.rstrip("\r\n") for line in lines if line.strip()]
        elif os.path.isdir(word):
            found += _in_folder(word)
        elif not os.path.exists(word) and glob.has_magic(word):
            found += _matching(word)
        else:
            found.append(word)  # if the file is missing, reading the image says so
    if not found:
        raise InputError("no images are named. Name files, folders, globs, or - for paths on the standard input")
    return list(dict.fromkeys(found))


def class_names(words: str) -> list[str] | None:
    """Return the class names of --classes. None: the flag isn't given, so the run's classes are used.

    `words` is a list with commas, or the path of a text file with a name per line. Raises InputError if the file isn't
    in UTF-8.
    """
    if not words:
        return None
    if not Path(words).is_file():
        return words.split(",")
    try:
        return [line for line in Path(words).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"{words} (--classes) isn't a text file in UTF-8: {error}") from error


def _in_folder(folder: str) -> list[str]:
    paths = [os.path.join(folder, name) for name in files_below(folder) if name.lower().endswith(EXTENSIONS)]
    if not paths:
        raise InputError(f"{folder} and its subfolders have no images. Known extensions: {', '.join(EXTENSIONS)}")
    return paths


def _matching(pattern: str) -> list[str]:
    paths = sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_file())
    if not paths:
        raise InputError(f"no file matches {pattern}")
    return paths
