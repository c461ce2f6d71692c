"""Files, images, seeds and memory."""

import os
import random
from importlib.metadata import version

import numpy as np
import pytest
import torch
from PIL import Image

from dassl.utils import (
    InputError,
    cache_folder,
    check_isfile,
    collect_env_info,
    listdir_nohidden,
    mkdir_if_missing,
    read_image,
    read_json,
    set_random_seed,
    tools,
    write_json,
)


def test_json_is_written_into_a_new_folder(tmp_path):
    write_json({"a": [1]}, tmp_path / "deep" / "x.json")
    assert read_json(tmp_path / "deep" / "x.json") == {"a": [1]}
    (tmp_path / "deep/.hidden").touch()
    assert listdir_nohidden(tmp_path / "deep") == ["x.json"]


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *words, name=name, call=call: calls.append(name) or call(*words))
    write_json({}, tmp_path / "x.json")
    assert calls == ["fsync", "replace", "fsync"]  # the second one stores the name


def test_without_a_home_the_user_chooses_the_cache(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user id without an account
    with pytest.raises(InputError, match="Set XDG_CACHE_HOME to a folder"):
        cache_folder()


def test_json_has_no_nan(tmp_path):
    with pytest.raises(FloatingPointError, match=r"x\.json, because a number is infinite or NaN"):
        write_json({"a": [float("nan")]}, tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()


def test_broken_json_is_an_input_error(tmp_path):
    (tmp_path / "x.json").write_text("[")
    with pytest.raises(InputError, match=r"x\.json is not valid JSON"):
        read_json(tmp_path / "x.json")


def test_mkdir_if_missing(tmp_path):
    for _ in range(2):
        mkdir_if_missing(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir()
    mkdir_if_missing("")  # the current folder


def test_check_isfile_warns(tmp_path):
    with pytest.warns(UserWarning, match="No file"):
        assert not check_isfile(tmp_path / "nothing")


def test_set_random_seed_seeds_all_generators():
    draws = []
    for _ in range(2):
        set_random_seed(3)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]


def test_the_environment_names_torch():
    assert f"torch {version('torch')}" in collect_env_info()


def test_a_broken_image_is_an_input_error(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"bad\.jpg"):
        read_image(str(tmp_path / "bad.jpg"))


def test_sixteen_bit_images_keep_their_range(tmp_path):
    ramp = np.linspace(0, 65535, 100).reshape(10, 10)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "ramp.png")
    pixels = np.asarray(read_image(tmp_path / "ramp.png"))[..., 0]
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert np.abs(pixels - ramp / 256).max() < 2
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "ramp.tif")
    with pytest.raises(InputError, match="mode F"):
        read_image(tmp_path / "ramp.tif")


@pytest.mark.parametrize(("version", "expected"), [(2, 700), (1, 600)])
def test_free_memory_respects_the_limits_of_containers_and_jobs(version, expected, monkeypatch):
    base = "/sys/fs/cgroup"
    files = {
        2: {
            "/proc/self/cgroup": "0::/slurm/job",
            f"{base}/slurm/job/memory.max": "max",
            f"{base}/slurm/job/memory.current": "300",
            f"{base}/slurm/memory.max": "1000",
            f"{base}/slurm/memory.current": "350",
            f"{base}/slurm/memory.stat": "anon 300\ninactive_file 50\nactive_file 0",
        },
        1: {
            "/proc/self/cgroup": "3:cpu:/x\n2:memory:/docker/from-outside",
            f"{base}/memory/memory.limit_in_bytes": "1000",
            f"{base}/memory/memory.usage_in_bytes": "400",
        },
    }[version]
    monkeypatch.setattr(tools, "_lines", lambda path: files.get(str(path), "").splitlines())
    assert tools.free_memory() == expected
    files.clear()
    assert tools.free_memory() > 2**20  # without a limit: what the machine has
