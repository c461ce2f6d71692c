"""The engine: registries, config, data, training loop, evaluation, under Dassl.pytorch's names.

An independent implementation of the part of Dassl's interface that CLIP prompt-learning code uses,
on top of torch, torchvision, yacs, scikit-learn and TensorBoard.
"""

__version__ = "0.6.3"  # the Dassl.pytorch release whose interface this follows
