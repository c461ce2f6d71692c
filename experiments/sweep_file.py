"""Reads the files in configs/sweeps/. A file declares the trainers, data sets, seeds and so on of a sweep's runs.

`plan.py` turns a `Sweep` into runs.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from dassl.config import Depth, Int64, field_types
from dassl.utils.errors import InputError, unknown
from dassl.utils.typed import convert
from dassl.utils.yaml_files import read_yaml
from experiments.config import ROOT

FILES = ROOT / "configs" / "sweeps"
#: {key: type of the items} for the keys of a sweep's file whose values are lists.
LISTS: dict[str, type] = {
    "trainers": str, "datasets": str, "seeds": int, "shots": int, "depths": int, "lengths": int, "backbones": str,
}  # fmt: skip
_Text = Annotated[str, Meta(min_length=1)]
_Texts = Annotated[list[_Text], Meta(min_length=1)]
_Numbers = Annotated[list[Int64], Meta(min_length=1)]


@dataclass(frozen=True)
class Sweep:
    """The content of a sweep's file.

    Every combination of trainer, data set, seed, shots, depth, length and backbone is executed.
    """

    #: a key of `plan.CHAINS`; for domain generalisation, use cross_dataset with ImageNet's variants
    protocol: Literal["base2new", "few_shot", "cross_dataset"]
    trainers: _Texts  # each item is TRAINER[:CONFIG] [--variant NAME] [KEY VALUE ...]
    datasets: _Texts  # names of files in configs/datasets/
    seeds: _Numbers = field(default_factory=lambda: [1, 2, 3])
    shots: _Numbers = field(default_factory=lambda: [16])
    depths: list[Depth] = field(default_factory=list)  # for PROMPT_DEPTH*; ignored for trainers without such keys
    lengths: list[Depth] = field(default_factory=list)  # values for N_CTX*; ignored for trainers without such keys
    backbones: list[_Text] = field(default_factory=list)  # each item is NAME [KEY VALUE ...]
    options: str = ""  # flags and KEY VALUE pairs for every run; options from the other fields override these

    @classmethod
    def read(cls, name: str) -> "Sweep":
        """Read a sweep's file. Raises InputError for an unknown sweep or key, or for a value of the wrong type.

        Args:
            name: name of a file in configs/sweeps/ without its suffix, or the path of a .yaml file.
        """
        file = Path(name) if name.endswith((".yaml", ".yml")) else FILES / f"{name}.yaml"
        if not file.is_file():
            raise unknown("sweep", name, [path.stem for path in FILES.glob("*.yaml")])
        content = read_yaml(file)
        if not isinstance(content, dict) or not {"protocol", "trainers", "datasets"} <= set(content):
            raise InputError(f"{file} must have the keys protocol, trainers and datasets")
        return cls(**{key: _checked(key, value, f" in {file}") for key, value in content.items()})

    def narrowed(self, lists: Mapping[str, str | None], options: list[str]) -> "Sweep":
        """Return a copy of the sweep that uses the lists and options from the command line of `sweep.py`.

        Args:
            lists: {key: the new list as a string of comma-separated items, such as "1,2"; None or "" keeps the list}.
            options: flags and KEY VALUE pairs that are added to every run.

        Raises:
            InputError: if an item of a list of numbers isn't a number.
        """
        narrowed: dict[str, Any] = {}
        for key, item_type in LISTS.items():
            items = lists.get(key)
            if items:
                try:
                    # Don't split at commas inside parentheses, such as the comma in INPUT.SIZE (48,48).
                    values = [item_type(item) for item in re.split(r",(?![^(]*\))", items)]
                except ValueError as error:
                    raise InputError(f"--{key} takes numbers such as 1,2,3, but got {items}") from error
                narrowed[key] = _checked(key, values, "")
        return replace(self, options=f"{self.options} {shlex.join(options)}", **narrowed)


def _checked(key: str, value: object, where: str) -> Any:
    """Return the value of a key of a sweep's file. Raises InputError for an unknown key or a wrong value."""
    types = field_types(Sweep)
    if key not in types:
        raise unknown(f"key{where}", str(key), types)
    return convert(value, types[key], key, where)


def split_words(text: str, name: str) -> list[str]:
    """Split a trainer, a backbone or options into words, as a shell does. Raises InputError for unmatched quotes."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InputError(f"{name} {text!r} can't be split into words: {error}") from error


def name_and_options(text: str, name: str) -> tuple[str, list[str]]:
    words = split_words(text, name)
    if not words:
        raise InputError(f"{name} {text!r} of the sweep has no name")
    return words[0], words[1:]
