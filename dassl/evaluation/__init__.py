"""Evaluators by name: from logits and labels to accuracy and F1."""

from dassl.evaluation.evaluator import EVALUATOR_REGISTRY, Classification, EvaluatorBase, build_evaluator
from dassl.evaluation.multitask import ClassificationMT

__all__ = ["EVALUATOR_REGISTRY", "Classification", "ClassificationMT", "EvaluatorBase", "build_evaluator"]
