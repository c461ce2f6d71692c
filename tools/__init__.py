"""Command-line tools beside training and reports: downloads, linear probe, nearest words, pictures, pretraining."""
