"""Reads pickles and torch files that anybody may have written, as data. Code in the files is never run.

`clip/` reads weights with this package, and `dassl/` reads checkpoints and few-shot lists.
"""
