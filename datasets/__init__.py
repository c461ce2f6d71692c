"""This package holds the data sets, one in each file.

`load_plugins("datasets")` imports every file in this folder whose name doesn't start with `_`. To add a data set, add a
file that registers a class.
"""
