"""Command-line tools: data downloads, linear probe, nearest words of prompts, pictures, pretraining of ViT-Mini/8."""
