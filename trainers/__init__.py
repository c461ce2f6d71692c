"""The trainers, with one file for each method. Each file in this folder is imported, and registers its trainers."""
