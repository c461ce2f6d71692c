"""Command-line tools: data downloads, linear probes, nearest words of prompts, pictures, pretraining of ViT-Mini/8."""
