"""Downloads data sets: download.py DATASET [DATASET ...] [--root FOLDER].

`scripts/download.sh` runs this file. DATASET is the name of a data set class (Caltech101) or of a config file in
configs/datasets/ (caltech101). FOLDER is the folder of all data sets. The default is the value of the environment
variable DATA, or data/ if DATA isn't set.

Files that exist are skipped, and a partial download is resumed. Archives are unpacked into a temporary folder first,
so an interrupted run leaves no incomplete data.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import gdown
import yaml
from torchvision.datasets.utils import check_integrity

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase
from dassl.utils import InputError, load_plugins, read_json, report_errors, unknown
from datasets.base import Download
from experiments.config import ROOT


def downloads_of(dataset: type[DatasetBase]) -> Sequence[Download]:
    """Return the downloads of a data set class. Returns () if the class has no downloads, for example MultiTask."""
    return getattr(dataset, "downloads", ())


def instructions_of(dataset: type[DatasetBase]) -> str:
    """Return a text that says how to get the files that this tool can't download, or "" if the class has no text."""
    return getattr(dataset, "by_hand", "")


def find(name: str) -> type[DatasetBase]:
    """Return the data set class called `name`, or the class that the config file called `name` selects.

    Raises:
        InputError: the name is unknown, or the class has neither downloads nor instructions.
    """
    load_plugins("datasets")
    config = ROOT / "configs" / "datasets" / f"{name}.yaml"
    if config.is_file():
        name = yaml.safe_load(config.read_text(encoding="utf-8"))["DATASET"]["NAME"]
    registered = {key: DATASET_REGISTRY.get(key) for key in DATASET_REGISTRY.registered_names()}
    known = {key: cls for key, cls in registered.items() if downloads_of(cls) or instructions_of(cls)}
    if name not in known:
        raise unknown("data set", name, known)
    return known[name]


def fetch(url: str, path: Path, md5: str = "") -> None:
    """Download `url` to `path`. Does nothing if `path` exists and has the MD5 checksum `md5`.

    Resumes a partial download. If the checksum of the download is wrong, downloads the file once more. If `md5` is "",
    no checksum is compared.

    Raises:
        InputError: the download failed, or the checksum of the second download is wrong too. The message says where to
            save the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        if not path.is_file():
            try:
                gdown.download(url, str(path), resume=True)
            except Exception as error:  # gdown, requests and the system have unrelated error types
                reason = " ".join(str(error).split())[:200]
                raise InputError(
                    f"can't download {url}: {reason}. Download the file by hand and save it as {path}"
                ) from error
        if check_integrity(str(path), md5 or None):
            return
        print(f"{path} has the wrong checksum (expected MD5: {md5}). Downloading the file again")
        path.unlink(missing_ok=True)
    raise InputError(f"the file at {url} has the wrong checksum. Save a file with the MD5 checksum {md5} as {path}")


def unpack(archive: Path, folder: Path, inside: str = "") -> None:
    """Unpack a tar or ZIP archive into `folder`.

    Args:
        archive: the archive file. If it can be unpacked, the archive is kept.
        folder: the folder to unpack into. It must exist.
        inside: the folder in the archive whose contents are unpacked; "" for the whole archive.

    Raises:
        InputError: the archive is damaged, or would write files outside `folder`. In both cases, the archive is
            deleted.
    """
    unpacked = archive.parent / "unpacking"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(parents=True)
    print(f"Unpacking {archive}")
    try:
        # The filter "data" rejects devices, and paths and links to places outside the folder. ZIP files need no filter.
        shutil.unpack_archive(archive, unpacked, filter=None if archive.suffix == ".zip" else "data")
    except Exception as error:  # tarfile, zipfile, zlib and lzma have unrelated error types
        archive.unlink()
        raise InputError(
            f"{archive} can't be unpacked ({error}). The archive was deleted. Run the command again"
        ) from error
    for item in (unpacked / inside).iterdir():
        if (folder / item.name).is_dir():
            shutil.copytree(item, folder / item.name, dirs_exist_ok=True)
        else:
            os.replace(item, folder / item.name)
    shutil.rmtree(unpacked)


def get(download: Download, folder: Path) -> None:
    """Download one file of a data set into `folder`, and unpack it if it is an archive.

    Does nothing if an earlier call has completed this download.
    """
    if download.target:
        path = folder / download.target
        if download.entries and path.is_file():
            return  # the user may have made the split file, so don't check or replace the file
        fetch(download.url, path, download.md5)
        if download.entries:
            check_split(path, download.entries)
        return
    archive = folder / ".downloads" / (download.filename or download.url.split("/")[-1])
    done = archive.with_name(archive.name + ".unpacked")
    if done.exists():
        return
    fetch(download.url, archive, download.md5)
    unpack(archive, folder, download.inside)
    if download.inner:
        unpack(folder / download.inner, folder)
    archive.unlink()
    done.touch()


def check_split(path: Path, entries: tuple[int, int, int]) -> None:
    """Check that a split file lists the expected numbers (`entries`) of train, val and test images.

    Raises:
        InputError: the numbers differ, or the file isn't a split file. In both cases, the file is deleted.
    """
    try:
        content = read_json(path)
        found = tuple(len(content[split]) for split in ("train", "val", "test"))
    except (InputError, KeyError, TypeError, UnicodeDecodeError):
        found = ()
    if found != entries:
        path.unlink()
        raise InputError(
            f"{path.name} should list {entries} images (train, val, test), but the download lists {found or 'none'}"
        )


def main(argv: list[str]) -> int:
    """Download data sets. Returns the exit code: 0, or 2 if a data set can't be found or downloaded."""
    parser = argparse.ArgumentParser(description="Download data sets.")
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help="name of a data set class or of its config file")
    parser.add_argument(
        "--root",
        default=os.environ.get("DATA", "data"),
        help="folder of all data sets (default: $DATA, or data if DATA isn't set)",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)

    def job() -> None:
        for dataset in [find(name) for name in args.datasets]:
            folder = Path(os.path.expanduser(args.root)) / dataset.dataset_dir
            for download in downloads_of(dataset):
                get(download, folder)
            print(f"{dataset.__name__}: {instructions_of(dataset) or 'complete'} ({folder})")

    return report_errors(job, args.debug)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
