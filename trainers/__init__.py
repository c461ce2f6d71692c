"""Trainers, one file a method; a file that registers a class is found by its being here."""
