"""The engine: registries, config, data, training loop, evaluation and optimisers.

This project's trainers and data sets use the engine. Code written for Dassl.pytorch can use it too, because modules,
classes and functions have the same names as Dassl's. The engine is an independent implementation of the part of
Dassl's interface that CLIP prompt-learning code needs. It uses torch, torchvision, yacs, scikit-learn and TensorBoard.
"""

__version__ = "0.6.3"  # release of Dassl.pytorch whose interface this package follows
