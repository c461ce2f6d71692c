"""Makes the files of ViT-Mini/8, the small CLIP in assets/: its weights, and the emoji drawings to pretrain it on."""
