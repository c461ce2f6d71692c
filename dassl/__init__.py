"""The engine: registries, config, data, training loop, evaluation and optimisers.

This project's trainers and data sets use the engine. Code written for Dassl.pytorch can use the engine, too, because
names are the same. The engine is an independent implementation of the part of Dassl's interface that CLIP
prompt-learning code needs. It uses torch, torchvision, yacs, scikit-learn and TensorBoard.
"""

__version__ = "0.6.3"  # release of Dassl.pytorch whose interface this package follows
