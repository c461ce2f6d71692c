"""Untrusted images: only the accepted formats are decoded, and a damaged image is one error."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from fuzzing import examples, limited, mutated
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dassl.utils import InputError, read_image
from dassl.utils.tools import IMAGE_FORMATS
from datasets.base import IMG_EXTENSIONS


def encoded(name: str, mode: str = "RGB", **options: object) -> bytes:
    """A small image in one of Pillow's formats."""
    pixels = np.random.RandomState(0).randint(0, 255, (24, 20, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, name, **options)
    return file.getvalue()


#: Images in the accepted formats, with the variants that have other decoders.
GOOD = {
    **{name: encoded(name) for name in IMAGE_FORMATS if name != "GIF"},
    "GIF": encoded("GIF", "P"),
    "progressive": encoded("JPEG", progressive=True),
    "CMYK": encoded("JPEG", "CMYK"),
    "palette": encoded("PNG", "P"),
    "interlaced": encoded("PNG", "LA"),
    "lossless": encoded("WEBP", lossless=True),
    **{name: encoded("TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")},
    "bits": encoded("BMP", "1"),
    "grey": encoded("PPM", "L"),
}
OTHER = {
    name: encoded(name, "RGB" if name != "SPIDER" else "F") for name in ("DDS", "SPIDER", "ICO", "TGA", "PCX", "SGI")
}
OTHER["EPS"] = encoded("EPS")
OTHER["AVIF"] = b"\0\0\0 ftypavif\0\0\0\0avifmif1miafMA1B" + bytes(100)
OTHER["BLP"] = b"BLP2" + bytes(200)
OTHER["PSD"] = b"8BPS\0\1" + bytes(100)


def read(path, content: bytes) -> Image.Image | str:
    """Read an image, or return the error."""
    path.write_bytes(content)
    with limited():
        try:
            image = read_image(path)
        except InputError as error:
            return str(error)
    assert image.mode == "RGB"
    return image


@pytest.mark.parametrize("name", GOOD)
def test_accepted_formats_are_read_whatever_their_ending(name, tmp_path):
    assert read(tmp_path / "image.jpg", GOOD[name]).size == (20, 24)


def test_the_accepted_endings_are_those_of_the_accepted_formats():
    known = Image.registered_extensions()
    assert {known[ending] for ending in IMG_EXTENSIONS} | {"GIF"} == set(IMAGE_FORMATS)


@pytest.mark.parametrize("name", OTHER)
def test_other_formats_start_no_program_and_are_one_line(name, tmp_path, monkeypatch):
    for program in ("gs", "gswin32c", "gswin64c"):
        (tmp_path / program).write_text(f"#!/bin/sh\ntouch {tmp_path}/marker\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    message = read(tmp_path / "image.jpg", OTHER[name])
    assert "it is none of JPEG, PNG" in message
    assert "\n" not in message
    assert not (tmp_path / "marker").exists()


def test_a_decompression_bomb_is_one_line(tmp_path):
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    message = read(tmp_path / "bomb.png", bomb)
    assert "decompression bomb" in message
    assert "\n" not in message


@given(content=st.sampled_from([*GOOD.values(), *OTHER.values()]).flatmap(mutated))
@examples(150, 5000)
def test_a_damaged_image_is_an_image_or_one_error(content, tmp_path_factory):
    found = read(tmp_path_factory.getbasetemp() / "damaged.jpg", content)
    assert isinstance(found, Image.Image) or "\n" not in found
