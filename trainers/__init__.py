"""The trainers. This folder has one file for each method. All files are imported, and each registers its trainers."""
