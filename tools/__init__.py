"""Command-line tools: downloads, linear probes, nearest words, pictures, pages of docs/, pretraining of ViT-Mini/8."""
