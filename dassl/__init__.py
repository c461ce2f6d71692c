"""The engine under Dassl.pytorch's names: registries, config, data, training loop, evaluation, optimisers.

The trainers and data sets of this project build on it, and so do files written for Dassl.pytorch. It is an independent
implementation of the part of Dassl's interface that CLIP prompt-learning code uses. It builds on torch, torchvision,
yacs, scikit-learn and TensorBoard.
"""

__version__ = "0.6.3"  # the Dassl.pytorch release whose interface this follows
