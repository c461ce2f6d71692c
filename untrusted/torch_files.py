"""Reads files of `torch.save` and TorchScript archives as data: tensors, containers, numbers and texts.

`clip.loading` reads weights with this module, and `dassl.utils.load_checkpoint` reads checkpoints. Neither format is
opened with torch's own functions, because `torch.jit.load` runs code in the archive. `torch.load` without
`weights_only` runs code, too, and with `weights_only` it refuses the checkpoints of the original code.
"""

import io
import math
import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import torch

from untrusted.pickles import CONTAINERS, MAX_DEPTH, Global, Makers, Malformed, StandIn, load

#: Names of the classes of storages in torch files, and the type of their elements.
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
#: First object in files that torch wrote before version 1.6, or later with `_use_new_zipfile_serialization=False`.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_MODULES = 100_000


def read(path: str | Path) -> object:
    """Return the content of a file of `torch.save`, or the state dict of a TorchScript archive. Tensors are on the CPU.

    In the result, each object of a class that isn't a tensor, a container, a number or a text is a `StandIn`.

    Raises:
        Malformed: the file has another format, or is damaged.
        OSError: the file can't be read.
    """
    if not zipfile.is_zipfile(path):
        return _read_legacy(Path(path))
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _read_archive(archive, file, Path(path).stat().st_size)
        except Malformed:
            raise
        except Exception as error:  # a wrong ZIP archive can raise almost any error
            raise Malformed(f"damaged ZIP archive ({' '.join(str(error).split())[:200]})") from error


def is_torchscript(path: str | Path) -> bool:
    """Return whether a file is a TorchScript archive. Returns False if the file can't be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except Exception:  # a wrong ZIP archive can raise almost any error
        return False


class _Storages:
    """The arrays of numbers in a file. Tensors are views of these arrays."""

    def __init__(self, limit: int):
        self.flat: dict[object, torch.Tensor] = {}
        self.bytes: dict[object, bytearray] = {}
        self.free = limit  # how many bytes all arrays may still have

    def get(self, identity: object) -> torch.Tensor:
        """Return a storage as a flat tensor (numel,). `identity` is the storage's persistent ID in the pickle."""
        kind, cls, key, _, numel, *view = identity if isinstance(identity, tuple) else ("", None, "", "", 0)
        if kind != "storage" or not isinstance(cls, Global) or any(part is not None for part in view):
            # torch also knows "module". It would then compare the source code of the module with the file's.
            raise Malformed("the file holds something that isn't a plain tensor")
        if cls.name not in _DTYPES or type(numel) is not int or numel < 0 or not isinstance(key, str):
            raise Malformed(f"the file holds a tensor of an unknown type {cls}")
        if key not in self.flat:
            dtype = _DTYPES[cls.name]
            self.bytes[key] = self.read(key, numel * dtype.itemsize)
            self.flat[key] = torch.frombuffer(self.bytes[key], dtype=dtype) if numel else torch.empty(0, dtype=dtype)
        if len(self.flat[key]) != numel:
            raise Malformed("two tensors of the file disagree on the size of their storage")
        return self.flat[key]

    def read(self, key: str, size: int) -> bytearray:
        """Return the content of a storage. Here, the content is still unknown: `_read_legacy` fills it later."""
        self.free -= size
        if self.free < 0:
            raise Malformed("the tensors need more bytes than the file has")
        return bytearray(size)


class _ArchivedStorages(_Storages):
    """The arrays of numbers in a ZIP archive, one in each file of the folder data/."""

    def __init__(self, archive: zipfile.ZipFile, file: io.BufferedReader, folder: str, limit: int):
        super().__init__(limit)
        self.archive, self.file, self.folder = archive, file, folder

    def read(self, key: str, size: int) -> bytearray:
        entry = _entry(self.archive, f"{self.folder}/data/{key}", size)
        if entry.file_size != size:
            raise Malformed("a tensor's size differs from the size of its storage")
        content = super().read(key, size)
        # Read the file without `ZipFile.open`, which is 5 times slower because it reads in small pieces.
        self.file.seek(entry.header_offset + 26)
        name_and_extra = self.file.read(4)  # the lengths of the two last fields of the header, 2 bytes each
        self.file.seek(sum(struct.unpack("<HH", name_and_extra)), os.SEEK_CUR)
        if self.file.readinto(content) != size or zlib.crc32(content) != entry.CRC:
            raise Malformed("a tensor is damaged (wrong checksum)")
        return content


def _entry(archive: zipfile.ZipFile, name: str, limit: int) -> zipfile.ZipInfo:
    """Return the entry of a file in an archive. Raises Malformed if the file is missing, compressed or too large.

    torch never compresses. A compressed file of some kilobytes can have any size when it is read.
    """
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise Malformed(f"{name} is missing in the archive") from error
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.file_size > limit:
        raise Malformed(f"{name} in the archive is compressed or too large")
    return info


def _read_archive(archive: zipfile.ZipFile, file: io.BufferedReader, size: int) -> object:
    """Return the content of an archive of `size` bytes, which has a single folder with data.pkl and the storages."""
    pickles = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise Malformed("the ZIP archive isn't a file of torch")
    folder = pickles[0].removesuffix("/data.pkl")
    if f"{folder}/byteorder" in archive.namelist() and archive.read(f"{folder}/byteorder").strip() == b"big":
        raise Malformed("the file was written on a machine with another byte order (big-endian)")
    _entry(archive, pickles[0], size)
    content = load(io.BytesIO(archive.read(pickles[0])), _MAKERS, _ArchivedStorages(archive, file, folder, size).get)
    return _state_dict(content) if isinstance(content, StandIn) else content


def _read_legacy(path: Path) -> object:
    """Return the content of a file in torch's format without ZIP: several pickles, and then the storages."""
    size = path.stat().st_size
    if not size:
        raise Malformed("the file is empty")
    with open(path, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        file: IO[bytes] = mapped  # type: ignore[assignment]  # a map has read, readline and tell
        if mapped[:1] != b"\x80" or load(file) != _LEGACY_MAGIC:
            raise Malformed("the file is neither a state dict of torch nor a TorchScript archive")
        load(file)  # version of the format
        system = load(file)
        if not isinstance(system, Mapping) or system.get("little_endian") is not True:
            raise Malformed("the file was written on a machine with another byte order (big-endian)")
        storages = _Storages(size)
        content = load(file, _MAKERS, storages.get)
        keys = load(file)
        if not isinstance(keys, list) or set(map(str, keys)) != set(storages.bytes):
            raise Malformed("the file's list of storages is wrong")
        for key in keys:
            length = int.from_bytes(file.read(8), "little")
            if length != len(storages.flat[key]):
                raise Malformed("a tensor's size differs from the size of its storage")
            stored = file.read(len(storages.bytes[key]))
            if len(stored) != len(storages.bytes[key]):
                raise Malformed("the file is cut off")
            storages.bytes[key][:] = stored
        return content


def _tensor(flat: object, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> torch.Tensor:
    """Return a view of a storage (numel,). The arguments are those of `torch._utils._rebuild_tensor_v2`."""
    numbers = [offset, *size, *stride]
    if not isinstance(flat, torch.Tensor) or len(size) != len(stride) or len(size) > 16:
        raise Malformed("the file holds a tensor with a wrong size")
    if any(type(number) is not int or number < 0 for number in numbers) or math.prod(size) > max(len(flat), 1):
        raise Malformed("the file holds a tensor with a wrong size")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if math.prod(size) and last >= len(flat):
        raise Malformed("the file holds a tensor that is larger than its storage")
    return flat.as_strided(size, stride, offset) if math.prod(size) else flat.new_empty(size)


#: Functions that a torch file may call.
_MAKERS: Makers = {
    **CONTAINERS,
    Global("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Global("torch._utils", "_rebuild_tensor"): _tensor,
    Global("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    Global("torch", "Size"): lambda numbers=(): tuple(numbers),
    Global("torch", "device"): lambda *parts: ":".join(map(str, parts)),
}


def _state_dict(module: StandIn) -> dict[str, torch.Tensor]:
    """Return the tensors of a TorchScript module and its submodules, named as in its state dict.

    Tensors that aren't parameters or buffers are included, because only the archive's code could tell them apart.
    """
    found: dict[str, torch.Tensor] = {}
    waiting = [("", module)]
    for _ in range(_MAX_MODULES):
        if not waiting:
            return found
        prefix, module = waiting.pop()
        if prefix.count(".") > MAX_DEPTH:
            break
        for name, value in module.state.items() if isinstance(module.state, dict) else ():
            if isinstance(value, torch.Tensor):
                found[f"{prefix}{name}"] = value
            elif isinstance(value, StandIn):
                waiting.append((f"{prefix}{name}.", value))
    raise Malformed("the archive's modules are nested too deeply or are too many")
