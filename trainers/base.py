"""Collects the base classes and the building blocks of methods, so that the methods' files can import them from here.

This file only imports the names. The code is in `trainers/common/`.
"""

from dassl.config import ContextTokens, Count, Depth, NotNegative, Positive, Share, VisionTokens, Width, described
from dassl.data.datasets import Task
from trainers.common.backbone import cast_weights, load_backbone
from trainers.common.cached_training import CachedOptions, CachedTrainer
from trainers.common.feature_adapter import FeatureAdapter
from trainers.common.features import LabelledFeatures, TrainingFeatures
from trainers.common.method import Batch, ClassNames, Losses, Method, Output, normalized, total
from trainers.common.options import Options, Position, Precision, node_of
from trainers.common.paper_datasets import PAPER_DATASETS, training_dataset
from trainers.common.prompts import (
    ClassPrompts,
    PromptLearner,
    start_context,
    start_coop_context,
    words_unless_long,
)
from trainers.common.rebuild import load_method
from trainers.common.step_schedule import StepScheduleTrainer
from trainers.common.teacher import cosine_distance, frozen_image_features, frozen_text_features, mean_text_features
from trainers.common.templates import ENSEMBLE_TEMPLATES
from trainers.common.tokens import tokenize_classes
from trainers.common.tower_prompts import TowerPrompts, check_depth
from trainers.common.trainer import PromptTrainer

__all__ = [
    "ENSEMBLE_TEMPLATES",
    "PAPER_DATASETS",
    "Batch",
    "CachedOptions",
    "CachedTrainer",
    "ClassNames",
    "ClassPrompts",
    "ContextTokens",
    "Count",
    "Depth",
    "FeatureAdapter",
    "LabelledFeatures",
    "Losses",
    "Method",
    "NotNegative",
    "Options",
    "Output",
    "Position",
    "Positive",
    "Precision",
    "PromptLearner",
    "PromptTrainer",
    "Share",
    "StepScheduleTrainer",
    "Task",
    "TowerPrompts",
    "TrainingFeatures",
    "VisionTokens",
    "Width",
    "cast_weights",
    "check_depth",
    "cosine_distance",
    "described",
    "frozen_image_features",
    "frozen_text_features",
    "load_backbone",
    "load_method",
    "mean_text_features",
    "node_of",
    "normalized",
    "start_context",
    "start_coop_context",
    "tokenize_classes",
    "total",
    "training_dataset",
    "words_unless_long",
]
