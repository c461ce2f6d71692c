"""Generates wrong and odd inputs, one hypothesis strategy for each class of inputs."""

import io
import json
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

#: Values for config keys, as on the command line or in a YAML file.
WORDS = [
    "-1", "0", "1", "2", "3", "0.5", "-0.5", "1.5", "1000000", "10000000000", str(2**64), "-" + "9" * 30, "1e400",
    "-1e400", "nan", "inf", "1e-320", "1e30", "1e300", "True", "None", "''", "abc", "[]", "()", "(1,)", "[1,2]",
    "(0.5,0.1)",
    "(2.0,3.0)", "(0,0)", "(-5,)", "[[]]", "[[1,2]]", "['a']", "[['Folder']]", "[['Folder','t','/nowhere']]", "{}",
    "{'a':1}", "b'x'", "1j", "..", "/", "../x", "%s", "{}", "{0}", "9" * 5000, "[" * 500, "[" * 200 + "]" * 200, "-",
    "1+1", "__import__('os')", "base", "val", "RandomClassSampler", "RandomDomainSampler", "SeqDomainSampler",
    "ClassificationMT", "EvaluatorBase", "best_val", "('cutout',)", "('gaussian_blur','cutout')", "('random_crop',)",
    "('random_resized_crop','colorjitter')", "('randaugment','normalize')", "multi_step", "cosine", "constant", "sgd",
    "rmsprop", "radam", "fp16", "amp", "middle", "front", "linmean", "~", "\udcff", "a\nb", "🦉", "x" * 5000,
]  # fmt: skip

_NUMBERS = [word for word in WORDS if word.lstrip("-").replace(".", "").replace("e", "").isdigit()]
_LISTS = [word for word in WORDS if word[:1] in "([" and len(word) < 100]


@st.composite
def values(draw: st.DrawFn, keys: list[tuple[str, str, object]]) -> tuple[str, str, str]:
    """Triples (trainer, key, value). Half of the values look like the key's default value.

    `keys` lists triples (trainer, key, default value).
    """
    trainer, key, default = draw(st.sampled_from(keys))
    if draw(st.booleans()):
        return trainer, key, draw(st.sampled_from(WORDS))
    if isinstance(default, list | tuple) and default and draw(st.booleans()):
        items = list(default)
        items[draw(st.integers(0, len(items) - 1))] = draw(st.sampled_from([0, -1, 2.5, 10**6, 1e-320, "a", None]))
        return trainer, key, repr(items)
    alike = _LISTS if isinstance(default, list | tuple) else WORDS if isinstance(default, str) else _NUMBERS
    return trainer, key, draw(st.sampled_from(alike))


#: Texts of YAML values that aren't what a config needs.
YAML_VALUES = [
    "", "null", "~", "2024-01-01", "2024-13-45", "2024-01-01 00:00:00", "010", "0x1f", "1_000", "1:30", ".inf", "-.inf",
    ".nan", "1e400", str(2**64), "9" * 5000, "yes", "no", "''", "[]", "{}", "[[[]]]", "{a: {b: 1}}", "[null]", "[1, a]",
    "!!python/object/apply:os.system ['touch marker']", "!!binary aGFsbG8=", "!!set {a, b}", "!!int ''", "!!bool x",
    "!!float x", "!!timestamp x", "!!omap [a: 1]", '"\\0"', '"\\ud800"', "*nowhere", "&a [*a]", "&a {x: *a}", "|\n  x",
    "'", "[", "{", "- ", "? a", "%", "@", "`", "🦉", "x: y", "1j", "-1", "0", "1000000", "0.5", "[0.5, 0.1]", "abc",
]  # fmt: skip

#: Whole YAML files that are wrong: (text, whether a run with this config must fail).
YAML_FILES: list[tuple[str | bytes, bool]] = [
    (b"\xff\xfe\x00", True), ("K\u00e4se: 1".encode("latin-1"), True), (b"\x00\x01", True), ("- a\n- b", True),
    ("3", True), ("2024-01-01", True), ("text", True), ("1: 2", True), ("null: 2", True), ("[1]: 2", True),
    ("{a: 1}: 2", True), ("2024-01-01: 2", True), ("true: 1", True), ("OPTIM: 3", True), ("OPTIM: []", True),
    ("OPTIM: abc", True), ("OPTIM:\n  1: 2", True), ("OPTIM:\n  LR: {a: 1}", True),
    ("OPTIM:\n  LR: 0.1\nOPTIM:\n  NAME: sgd", True), ("OPTIM:\n  LR: 0.1\n  LR: 0.2", True), ("a: &x [*x]", True),
    ("a: &x {y: *x}", True), ("&x OPTIM: {LR: *x}", True), ("OPTIM: &x {LR: *x}", True),
    ("a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)), True),
    ("[" * 5000, True), ("a: " + "{b: " * 3000 + "1" + "}" * 3000, True), ("---\nOPTIM: {LR: 0.1}\n---\nSEED: 1", True),
    ("\tOPTIM: 1", True), ("OPTIM.LR: 0.1", False), ("_BASE_: 3", True), ("_BASE_: ''", True),
    ("_BASE_: [[a]]", True), ("_BASE_: nowhere.yaml", True), ("_BASE_: config.yaml", True), ("_BASE_: .", True),
    ("_BASE_: /dev/zero", True), ('_BASE_: "a\\0b"', True), ("_BASE_: " + "x" * 5000, True), ("_BASE_: {a: b}", True),
    ('"\\ud800": 1', True), ("!!python/name:os.system : 1", True), ("DATASET: {NAME: [a]}", True),
    ("<<: {OPTIM: {LR: 0.1}}", False), ("x: " + "y" * 10**6, True), ("", False), ("null", False), ("{}", False),
]  # fmt: skip


class ConfigFile(NamedTuple):
    """A config file that is generated for a run."""

    content: bytes
    role: str  # the flag that names the file
    ending: str  # see `fuzz.problem`


@st.composite
def config_files(draw: st.DrawFn, valid: str, keys: list[str]) -> ConfigFile:
    """Config files: a valid one with an odd value, with damaged bytes, or a wrong one."""
    role = draw(st.sampled_from(["--config-file", "--dataset-config-file"]))
    kind = draw(st.sampled_from(["value", "value", "bytes", "file"]))
    if kind == "file":
        text, must_fail = draw(st.sampled_from(YAML_FILES))
        content = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
        return ConfigFile(content, role, "fails" if must_fail else "")
    if kind == "bytes":
        content = bytearray(valid.encode())
        for _ in range(draw(st.integers(1, 4))):
            start = draw(st.integers(0, len(content)))
            content[start : start + draw(st.integers(0, 6))] = draw(st.binary(max_size=6))
        return ConfigFile(bytes(content), role, "")
    key, value = draw(st.sampled_from(keys)), draw(st.sampled_from(YAML_VALUES))
    *nodes, name = key.split(".")
    indented = [f"{'  ' * depth}{node}:" for depth, node in enumerate(nodes)]
    text = "\n".join([*indented, f"{'  ' * len(nodes)}{name}: {value}"])
    return ConfigFile(text.encode(errors="surrogatepass"), role, "")


JSON_VALUES = [
    None, True, False, 0, -1, 1, 1.5, 2**64, -(2**70), 10**400, 1e308, float("nan"), float("inf"), "", "x", "1", "../x",
    "$", "$x_{1}$", "\\frac{", "a\nb", "a\0b", "\ud800", "🦉", "x" * 3000, "<b>&amp;", "%s {} {0}", [], {}, [None],
    [[]], {"a": None}, {"": {}}, [1, "a"], list(range(200)), "base", "new", "val", "MaPLe", "2024-01-01",
]  # fmt: skip


def _places(tree: object, path: tuple = ()) -> list[tuple]:
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, value in children for place in _places(value, (*path, key)))]


@st.composite
def damaged_json(draw: st.DrawFn, content: object) -> bytes:
    """JSON text with odd values in some places, deep nesting, or damaged bytes."""
    kind = draw(st.sampled_from(["value", "value", "value", "drop", "bytes", "cut", "deep", "other"]))
    tree = json.loads(json.dumps(content))
    places = _places(tree)
    if kind in ("value", "drop", "deep"):
        for _ in range(1 if kind != "value" else draw(st.integers(1, 2))):
            *parents, last = (None, *draw(st.sampled_from(places)))
            value = draw(st.sampled_from(JSON_VALUES)) if kind == "value" else "DEEP"
            if not parents:
                tree = value
                break
            node = tree
            try:
                for key in parents[1:]:
                    node = node[key]
                if kind == "drop":
                    del node[last]
                else:
                    node[last] = value
            except (KeyError, IndexError, TypeError):
                continue
        deep = draw(st.sampled_from(["[" * 3000 + "]" * 3000, '{"a":' * 3000 + "1" + "}" * 3000, "9" * 5000, "1e999"]))
        return json.dumps(tree).replace('"DEEP"', deep).encode()
    if kind == "other":
        return draw(st.sampled_from([b"", b"null", b"[]", b"{}", b"3", b'"x"', b"\xff\xfe", b"NaN", b"\x00" * 50]))
    text = bytearray(json.dumps(tree).encode())
    if kind == "cut":
        return bytes(text[: draw(st.integers(0, len(text)))])
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, max(0, len(text) - 1)))
        text[start : start + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(text)


class ListFile(NamedTuple):
    """A file that lists images, and the config key that names it."""

    name: str
    content: bytes
    key: str  # DATASET.PATH or DATASET.FEWSHOT_FILE
    ending: str  # see `fuzz.problem`


def _rows(draw: st.DrawFn, paths: list[str]) -> list[list[object]]:
    """Rows [path, class, split] of a correct list of the images `paths`, which are in class folders."""
    names = draw(st.sampled_from([("cat", "dog"), ("Käse", "日本"), ("$x_1$", "a_b"), ("1", "2"), ("{}", "%s")]))
    folders = sorted({path.split("/")[-2] for path in paths})[:2]
    chosen = [path for path in paths if path.split("/")[-2] in folders]
    splits = ("train", "train", "val", "test", "test", "test")
    return [[path, names[folders.index(path.split("/")[-2])], splits[n % 6]] for n, path in enumerate(chosen)]


#: Changes of a list, by name. Each makes the list wrong.
_WRONG_ROWS = {
    "missing file": lambda row: row.__setitem__(0, "nowhere.png"),
    "null byte": lambda row: row.__setitem__(0, "a\0b"),
    "a folder": lambda row: row.__setitem__(0, "."),
    "no path": lambda row: row.__setitem__(0, ""),
    "no class": lambda row: row.__setitem__(1, ""),
    "split": lambda row: row.__setitem__(2, "holdout"),
    "long": lambda row: row.__setitem__(0, "x" * 5000),
}
_WRONG_ENTRIES = [
    None, 3, "x", [], {}, ["a.png"], ["a.png", "0", "x"], ["a.png", -1, "x"], ["a.png", 10**9, "x"], [1, 0, "x"],
    ["a.png", 0, None], ["a.png", 0, True], ["a.png", 1.5, "x"], ["a.png", None, "x"], ["a.png", 2**70, "x"],
    ["a.png", 0, "x", 1], ["a.png", 0, ["x"]], ["nowhere.png", 0, "x"], ["", 0, "x"],
]  # fmt: skip


@st.composite
def list_files(draw: st.DrawFn, paths: list[str]) -> ListFile:
    """CSV and JSON lists, split files and few-shot files: correct ones, wrong ones and damaged ones."""
    kind = draw(st.sampled_from(["csv", "json", "split", "fewshot", "pkl"]))
    rows = _rows(draw, paths)
    change = draw(st.sampled_from(["none", "entry", "entry", "damage", "damage"]))
    ending = {"none": "succeeds", "entry": "fails", "damage": ""}[change]
    if kind == "pkl":
        return ListFile(
            "picks.pkl", draw(st.one_of(st.binary(max_size=60), st.sampled_from(PICKLES))), _FEWSHOT, "fails"
        )
    if kind in ("csv", "json") and change == "entry":
        name = draw(st.sampled_from(sorted(_WRONG_ROWS)))
        _WRONG_ROWS[name](draw(st.sampled_from(rows)))
    if kind == "csv":
        text = "path,class,split\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows)
        content = bytearray(text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig"]))))
        if change == "damage":
            for _ in range(draw(st.integers(1, 3))):
                start = draw(st.integers(0, len(content)))
                content[start : start + draw(st.integers(0, 5))] = draw(st.sampled_from(_CSV_PIECES))
        return ListFile("list.csv", bytes(content), "DATASET.PATH", ending)
    if kind == "json":
        tree: object = [dict(zip(("path", "class", "split"), row, strict=True)) for row in rows]
    else:
        labels = {name: label for label, name in enumerate(sorted({str(row[1]) for row in rows}))}
        tree = {
            split: [[path, labels[str(name)], name] for path, name, part in rows if part == split]
            for split in ("train", "val", "test")[: 3 if kind == "split" else 2]
        }
        if change == "entry":
            entry = draw(st.sampled_from(_WRONG_ENTRIES))
            tree["train"].append(entry)  # a few-shot file uses only the paths
    content = draw(damaged_json(tree)) if change == "damage" else json.dumps(tree).encode()
    key = _FEWSHOT if kind == "fewshot" else "DATASET.PATH"
    return ListFile(f"{kind}.json", content, key, "" if kind == "fewshot" else ending)


_FEWSHOT = "DATASET.FEWSHOT_FILE"
_CSV_PIECES = [
    b"",
    b"\xff",
    b"\x00",
    b'"',
    b",",
    b"\n",
    b"\r",
    b"\n\n",
    b",,,,,,",
    b"\xef\xbb\xbf",
    b"path,path",
    b"x" * 200000,
]
#: Pickles of other things than lists of images. One calls a function.
PICKLES = [
    b"", b"N.", b"].", b"}.", b"I3\n.", b"cos\nsystem\n(S'touch marker'\ntR.", b"}U\x05train]K\x01as.", b"\x80\x05",
    b"}U\x05trainU\x01xs.", b"cdassl.data.datasets.base_dataset\nDatum\n.", b"(" * 5000,
    b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
]  # fmt: skip


@st.composite
def damaged_arrays(draw: st.DrawFn) -> bytes:
    """A .npz file whose arrays have other shapes, types or numbers than predictions."""
    shapes = st.sampled_from([(), (0,), (4,), (4, 2), (4, 0), (3, 2), (1, 4, 2)])
    kinds = st.sampled_from([np.float32, np.float16, np.int64, np.complex64, bool, "U3", "S2", "M8[s]"])
    arrays = {}
    for name in draw(st.sampled_from([("logits", "label"), ("logits",), ("label", "impath"), ()])):
        arrays[name] = np.zeros(draw(shapes), draw(kinds))
        if arrays[name].dtype.kind == "f" and draw(st.booleans()):
            arrays[name][...] = draw(st.sampled_from([np.nan, np.inf, 1e30]))
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
