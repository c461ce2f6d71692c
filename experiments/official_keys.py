"""Translates the config keys of a method's original code into ours.

Some original trainers read another method's node, such as TRAINER.COOP. Our trainers have nodes of their own, whose
keys have the original names. `config.resolve` translates config files and KEY VALUE pairs, so the original YAML files
and commands work.
"""

from collections.abc import Container, Mapping, Sequence

from dassl.config import Setting
from dassl.utils.errors import InputError


def translate_settings(trainer: type, settings: Mapping[str, Setting], known: Container[str]) -> dict[str, Setting]:
    """Return the settings of a config file under our keys. `our_key` explains the arguments and the error."""
    ours = {key: our_key(trainer, key, setting.value, known) for key, setting in settings.items()}
    return {ours[key]: setting for key, setting in settings.items() if ours[key]}


def translate_words(trainer: type, words: Sequence[str], known: Container[str]) -> list[str]:
    """Return KEY VALUE pairs under our keys. `our_key` explains the arguments and the error."""
    if len(words) % 2:
        return list(words)  # a value is missing, which is reported when the pairs are merged
    pairs = [(our_key(trainer, key, value, known), value) for key, value in zip(words[::2], words[1::2], strict=True)]
    return [word for pair in pairs if pair[0] for word in pair]


def our_key(trainer: type, key: str, value: object, known: Container[str]) -> str:
    """Return our key for a config key of the original code. All other keys are returned unchanged.

    Returns "" if our config has no such key, because only one value is possible or because the value has no effect.

    Args:
        trainer: the trainer's class. Its attributes `official_keys` and `fixed_keys` say how the keys differ.
        value: the value of the key. It may be a string, as on the command line.
        known: all keys of our config.

    Raises:
        InputError: the trainer doesn't support the value.
    """
    renamed: Mapping[str, str] = getattr(trainer, "official_keys", {})  # third-party trainers may lack the attributes
    fixed: Mapping[str, object] = getattr(trainer, "fixed_keys", {})
    node, _, name = key.rpartition(".")
    ours = renamed.get(key) or (f"{renamed[node]}.{name}" if node in renamed else key)
    if ours == key or ours in known or name not in fixed:
        return ours
    if fixed[name] is not None and str(value) != str(fixed[name]):
        raise InputError(f"{key} is {value}, but {trainer.__name__} supports only {fixed[name]}")
    return ""
