"""Fetches data sets into the folder that DATA names: download.py DATASET [DATASET ...] [--root FOLDER].

DATASET is a class's name (Caltech101) or its config's (caltech101). What is there already is kept; a broken download
goes on where it stopped; a file with another check sum is fetched anew. Archives are unpacked aside and moved in whole.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

import gdown
import yaml
from torchvision.datasets.utils import check_integrity

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError, load_plugins, read_json, report_errors, unknown
from datasets.base import Download, FewShotDataset
from experiments.config import ROOT


def find(name: str) -> type[FewShotDataset]:
    """The data set class of that name, or the one that the config of that name names."""
    load_plugins("datasets")
    config = ROOT / "configs" / "datasets" / f"{name}.yaml"
    if config.is_file():
        name = yaml.safe_load(config.read_text())["DATASET"]["NAME"]
    known = {key: DATASET_REGISTRY.get(key) for key in DATASET_REGISTRY.registered_names()}
    known = {key: kind for key, kind in known.items() if getattr(kind, "downloads", ()) or getattr(kind, "by_hand", "")}
    if name not in known:
        raise unknown("data set", name, known)
    return known[name]


def fetch(url: str, path: Path, md5: str = "") -> None:
    """Download `url` to `path`; a partial file is gone on with, one with another check sum fetched anew, once.

    Raises:
        InputError: it can't be had; says where to put it by hand.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        if not path.is_file():
            try:
                gdown.download(url, str(path), resume=True)
            except Exception as error:  # gdown, requests and the system each have their own module_types
                reason = " ".join(str(error).split())[:200]
                raise InputError(f"can't download {url}: {reason}. Get it by hand and put it at {path}") from error
        if check_integrity(str(path), md5 or None):
            return
        print(f"{path} has another MD5 than {md5}: downloading it again")
        path.unlink(missing_ok=True)
    raise InputError(f"{url} gives a file with another MD5 than {md5}: get the right one and put it at {path}")


def unpack(archive: Path, folder: Path, inside: str = "") -> None:
    """Unpack a tar or ZIP archive aside, then move the contents of its folder `inside` into `folder`."""
    aside = archive.parent / "unpacking"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    print(f"Unpacking {archive}")
    try:
        # Tar members can't leave the folder, nor be links out of it or devices; ZIP members never can.
        shutil.unpack_archive(archive, aside, filter=None if archive.suffix == ".zip" else "data")
    except Exception as error:  # tarfile, zipfile, zlib and lzma each have their own module_types
        archive.unlink()
        raise InputError(f"{archive} can't be unpacked ({error}); it is deleted, start again") from error
    for item in (aside / inside).iterdir():
        if (folder / item.name).is_dir():
            shutil.copytree(item, folder / item.name, dirs_exist_ok=True)
        else:
            os.replace(item, folder / item.name)
    shutil.rmtree(aside)


def get(download: Download, folder: Path) -> None:
    """Fetch one file of a data set into `folder`, unless it is there."""
    if download.target:
        path = folder / download.target
        if download.entries and path.is_file():
            return  # a split file that is there is the user's
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
    """Raise InputError, and drop the file, unless it lists so many train, val and test images."""
    try:
        content = read_json(path)
        found = tuple(len(content[split]) for split in ("train", "val", "test"))
    except (InputError, KeyError, TypeError, UnicodeDecodeError):
        found = ()
    if found != entries:
        path.unlink()
        raise InputError(f"{path.name} should list {entries} images, but the download lists {found or 'none'}")


def main(argv: list[str]) -> int:
    """Exit code: 0, or 2 where something couldn't be had."""
    parser = argparse.ArgumentParser(description="Fetch data sets.")
    parser.add_argument("datasets", nargs="+", metavar="DATASET")
    parser.add_argument("--root", default=os.environ.get("DATA", "data"), help="default: $DATA, or data")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)

    def job() -> None:
        for kind in [find(name) for name in args.datasets]:
            folder = Path(args.root).expanduser() / kind.dataset_dir
            for download in kind.downloads:
                get(download, folder)
            print(f"{kind.__name__}: {kind.by_hand or 'complete'} ({folder})")

    return report_errors(job, args.debug)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
