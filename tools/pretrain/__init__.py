"""Makes the embedded CLIP, ViT-Mini/8, and the emoji drawings that it is pretrained on."""
