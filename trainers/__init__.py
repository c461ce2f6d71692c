"""The trainers. This package has one file for each method.

`load_plugins("trainers")` imports all of these files, and each file registers its trainers.
"""
