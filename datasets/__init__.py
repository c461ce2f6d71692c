"""Data sets, one file each.

`load_plugins("datasets")` imports every file in this folder that doesn't start with `_`. So a new data set is one new
file that registers a class.
"""
