"""Metrics that trainers log for each training batch."""

from dassl.metrics.accuracy import compute_accuracy

__all__ = ["compute_accuracy"]
