"""Data sets, one file each.

`load_plugins("datasets")` imports every file in this folder whose name doesn't start with `_`. To add a data set, add a
file that registers a class.
"""
