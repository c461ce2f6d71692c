"""Generates wrong and odd inputs, one hypothesis strategy for each class of inputs."""

import json
from typing import NamedTuple

from hypothesis import strategies as st

#: Values for config keys, as on the command line or in a YAML file.
WORDS = [
    "-1", "0", "1", "2", "3", "0.5", "-0.5", "1.5", "1000000", "10000000000", str(2**64), "-" + "9" * 30, "1e400",
    "-1e400", "nan", "inf", "1e-320", "1e30", "True", "None", "''", "abc", "[]", "()", "(1,)", "[1,2]", "(0.5,0.1)",
    "(2.0,3.0)", "(0,0)", "(-5,)", "[[]]", "[[1,2]]", "['a']", "[['Folder']]", "[['Folder','t','/nowhere']]", "{}",
    "{'a':1}", "b'x'", "1j", "..", "/", "../x", "%s", "{}", "{0}", "9" * 5000, "[" * 500, "[" * 200 + "]" * 200, "-",
    "1+1", "__import__('os')", "base", "val", "RandomClassSampler", "RandomDomainSampler", "SeqDomainSampler",
    "ClassificationMT", "EvaluatorBase", "best_val", "('cutout',)", "('gaussian_blur','cutout')", "('random_crop',)",
    "('random_resized_crop','colorjitter')", "('randaugment','normalize')", "multi_step", "cosine", "constant", "sgd",
    "rmsprop", "radam", "fp16", "amp", "middle", "front", "linmean", "~", "\udcff", "a\nb", "🦉", "x" * 5000,
]  # fmt: skip

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
    must_fail: bool


@st.composite
def config_files(draw: st.DrawFn, valid: str, keys: list[str]) -> ConfigFile:
    """Config files: a valid one with an odd value, with damaged bytes, or a wrong one."""
    role = draw(st.sampled_from(["--config-file", "--dataset-config-file"]))
    kind = draw(st.sampled_from(["value", "value", "bytes", "file"]))
    if kind == "file":
        text, must_fail = draw(st.sampled_from(YAML_FILES))
        content = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
        return ConfigFile(content, role, must_fail)
    if kind == "bytes":
        content = bytearray(valid.encode())
        for _ in range(draw(st.integers(1, 4))):
            start = draw(st.integers(0, len(content)))
            content[start : start + draw(st.integers(0, 6))] = draw(st.binary(max_size=6))
        return ConfigFile(bytes(content), role, False)
    key, value = draw(st.sampled_from(keys)), draw(st.sampled_from(YAML_VALUES))
    *nodes, name = key.split(".")
    indented = [f"{'  ' * depth}{node}:" for depth, node in enumerate(nodes)]
    text = "\n".join([*indented, f"{'  ' * len(nodes)}{name}: {value}"])
    return ConfigFile(text.encode(errors="surrogatepass"), role, False)


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
