"""The registry of evaluators, and two evaluators that compute accuracy and other scores from logits and labels."""

from dassl.evaluation.evaluator import EVALUATOR_REGISTRY, Classification, EvaluatorBase, build_evaluator
from dassl.evaluation.multitask import ClassificationMT

__all__ = ["EVALUATOR_REGISTRY", "Classification", "ClassificationMT", "EvaluatorBase", "build_evaluator"]
