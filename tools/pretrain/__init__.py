"""Makes the weights of ViT-Mini/8, the small CLIP in assets/, and packs the emoji drawings for its pretraining."""
