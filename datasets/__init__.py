"""Data sets, one file each; a file that registers a class is found by its being here."""
