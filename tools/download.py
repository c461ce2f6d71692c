"""Downloads data sets: download.py DATASET [DATASET ...] [--root FOLDER].

`scripts/download.sh` runs this file. DATASET is the name of a data set class (Caltech101) or of a config file in
configs/datasets/ (caltech101). FOLDER is the folder of all data sets. The default is the value of the environment
variable DATA, or data/ if DATA isn't set.

Files that exist are skipped, and a partial download is resumed. Archives are unpacked into a temporary folder first,
so an interrupted run leaves no incomplete data.
"""

import argparse
import errno
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import gdown
import yaml
from torchvision.datasets.utils import check_integrity

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase
from dassl.engine.run_folder import exclusive_lock
from dassl.utils import InputError, load_plugins, read_json, report_errors, unknown
from datasets.base import Download
from experiments.config import ROOT

#: Seconds without a byte after which a download fails.
TIMEOUT = 60.0


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

    Resumes a partial download. If the content of the download is wrong (`wrong_content`), downloads the file once more.

    Raises:
        InputError: the download failed, or the content of the second download is wrong too. The message says where to
            save the file.
        OSError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    problem = ""
    for _ in range(2):
        if not path.is_file():
            _download(url, path)
        problem = wrong_content(path, md5)
        if not problem:
            return
        print(f"{path} {problem}. Downloading the file again")
        path.unlink(missing_ok=True)
    raise InputError(f"the file at {url} {problem}. Save the right file as {path}")


def _download(url: str, path: Path) -> None:
    """Download `url` to `path`. A partial download is in a file beside `path`, whose name ends with .part."""
    parts = sorted(path.parent.glob(f"{path.name}????????.part"), key=lambda part: part.stat().st_size)
    for part in parts[:-1]:  # gdown doesn't choose between several partial downloads
        part.unlink()
    before = parts[-1].stat().st_size if parts else 0
    try:
        gdown.download(url, str(path), resume=True, timeout=TIMEOUT)
    except Exception as error:  # gdown, requests and the system have unrelated error types
        if is_full(error):
            raise full_disk(path) from error
        if isinstance(error, gdown.exceptions.DownloadError) and before and parts[-1].stat().st_size == before:
            parts[-1].unlink()  # the server doesn't resume downloads, so the next call must start again
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"can't download {url}: {reason}. Download the file by hand and save it as {path}") from error


def wrong_content(path: Path, md5: str = "") -> str:
    """Return what is wrong with a downloaded file, such as "isn't a ZIP archive". Returns "" if nothing is wrong.

    If there is no checksum, check that the content fits the file's ending. Servers often send a page in HTML instead of
    the file, for example if a quota is exceeded.
    """
    if md5:
        return "" if check_integrity(str(path), md5) else f"has the wrong checksum (expected MD5: {md5})"
    with open(path, "rb") as file:
        start = file.read(1024).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a page in HTML, which the server sent instead of the file"
    if path.suffix == ".zip":
        return "" if _is_archive(path, zipfile.is_zipfile) else "isn't a ZIP archive"
    if path.suffix in (".tar", ".gz", ".tgz", ".bz2", ".xz"):
        return "" if _is_archive(path, tarfile.is_tarfile) else "isn't a tar archive"
    if path.suffix == ".json":
        return "" if start.startswith((b"{", b"[")) else "isn't a JSON file"
    return "" if start else "is empty"


def _is_archive(path: Path, is_valid: Callable[[Path], bool]) -> bool:
    try:
        return is_valid(path)
    except Exception as error:  # tarfile, zlib and lzma have unrelated error types
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return False


def is_full(error: Exception) -> bool:
    """Return whether an error says that a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def full_disk(path: Path) -> OSError:
    """Return the error for a full disk. The message names the file that couldn't be written."""
    free = shutil.disk_usage(path.parent).free
    return OSError(f"the disk is full ({free // 2**20} MB free): can't write {path}. Free some space and run again")


def unpack(archive: Path, folder: Path, inside: str = "") -> None:
    """Unpack a tar or ZIP archive into `folder`.

    Args:
        archive: the archive file. It is deleted only if it is damaged.
        folder: the folder to unpack into. It must exist.
        inside: the folder in the archive whose contents are unpacked; "" for the whole archive.

    Raises:
        InputError: this version of Python can't unpack safely; or the archive is damaged, has no folder `inside`, or
            would write files outside `folder`. In the last three cases, the archive is deleted.
        OSError: the disk is full, or a file can't be written. The archive is kept.
    """
    if archive.suffix != ".zip" and not hasattr(tarfile, "data_filter"):
        raise InputError(f"unpacking {archive} safely needs Python 3.11.4 or newer. The archive is kept")
    if not archive.is_file():
        raise InputError(f"{archive.name} is missing in the data set's archive. Delete {archive.parent} and run again")
    unpacked = archive.parent / "unpacking"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(parents=True)
    print(f"Unpacking {archive}")
    try:
        _extract(archive, unpacked)
        if not (unpacked / inside).is_dir():
            raise tarfile.ReadError(f"it has no folder {inside}")
        _move(unpacked / inside, folder)
    except Exception as error:  # tarfile, zipfile, zlib and lzma have unrelated error types
        if is_full(error):
            raise full_disk(folder / archive.name) from error
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
            raise OSError(f"can't unpack {archive}: {error}. The archive is kept") from error
        archive.unlink()
        raise InputError(
            f"{archive} can't be unpacked ({error}). The archive was deleted. Run the command again"
        ) from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _extract(archive: Path, folder: Path) -> None:
    """Unpack all files of an archive. Raises an error if one of them would be outside `folder`."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as content:
            for name in content.namelist():
                if name.startswith(("/", "\\")) or ".." in Path(name).parts:
                    raise zipfile.BadZipFile(f"it would write {name!r} outside the folder")
            content.extractall(folder)
    else:
        # The filter "data" rejects devices, and paths and links to places outside the folder.
        shutil.unpack_archive(archive, folder, filter="data")


def _move(source: Path, folder: Path) -> None:
    """Move everything in `source` to `folder`. Folders that exist in both are merged."""
    for item in source.iterdir():
        if (folder / item.name).is_dir():
            shutil.copytree(item, folder / item.name, dirs_exist_ok=True)
        else:
            os.replace(item, folder / item.name)


def get(download: Download, folder: Path) -> None:
    """Download one file of a data set into `folder`, and unpack it if it is an archive.

    Does nothing if an earlier call has completed this download. Only one process at a time downloads into a folder.
    """
    if not is_complete(download, folder):
        with exclusive_lock(folder / ".downloads"):
            if not is_complete(download, folder):  # another process may have completed it in the meantime
                _get(download, folder)


def is_complete(download: Download, folder: Path) -> bool:
    """Return whether an earlier call has completed a download into `folder`."""
    if download.target:
        path = folder / download.target
        # The user may have made the split file, so its content isn't compared with the published one.
        return path.is_file() and bool(download.entries or not wrong_content(path, download.md5))
    return _unpacked_mark(_archive(download, folder)).exists()


def _archive(download: Download, folder: Path) -> Path:
    return folder / ".downloads" / (download.filename or download.url.split("/")[-1])


def _unpacked_mark(archive: Path) -> Path:
    """Return the path of the empty file that says that an archive was unpacked."""
    return archive.with_name(archive.name + ".unpacked")


def _get(download: Download, folder: Path) -> None:
    if download.target:
        fetch(download.url, folder / download.target, download.md5)
        if download.entries:
            check_split(folder / download.target, download.entries)
        return
    archive = _archive(download, folder)
    fetch(download.url, archive, download.md5)
    unpack(archive, folder, download.inside)
    if download.inner:
        unpack(folder / download.inner, folder)
    archive.unlink()
    _unpacked_mark(archive).touch()


def check_split(path: Path, entries: tuple[int, int, int]) -> None:
    """Check that a split file lists the expected numbers (`entries`) of train, val and test images.

    Raises:
        InputError: the numbers differ, or the file isn't a split file. In both cases, the file is deleted.
    """
    try:
        content = read_json(path)
        found = tuple(len(content[split]) for split in ("train", "val", "test"))
    except (InputError, KeyError, TypeError, ValueError, RecursionError):
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
