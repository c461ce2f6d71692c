"""CoPrompt: Consistency-guided Prompt Learning (Roy and Etemad, ICLR 2024, arXiv 2306.01195).

CoPrompt learns MaPLe's prompts, and an adapter after each tower. Two losses keep the features close to those of the
frozen CLIP, which gets another input: another augmentation of the image, and sentences about the class instead of the
template (section 3.2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from yacs.config import CfgNode

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError, read_json, unknown
from trainers.base import (
    ENSEMBLE_TEMPLATES,
    Batch,
    FeatureAdapter,
    Losses,
    Output,
    PromptTrainer,
    check_depth,
    cosine_distance,
    described,
    frozen_image_features,
    frozen_text_features,
    training_dataset,
)
from trainers.maple import MaPLeCLIP, MaPLeOptions

Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
DISTANCES: dict[str, Distance] = {"cosine": cosine_distance, "mse": F.mse_loss}


@dataclass(frozen=True)
class CoPromptOptions(MaPLeOptions):
    """The options of CoPrompt, in the config node TRAINER.CoPrompt."""

    W: float = described(8.0, "weight of the losses `text` and `image`")
    DISTILL: str = described("cosine", "distance of features in these losses: cosine or mse")
    SENTENCES: str = described(
        "", 'JSON file with sentences, {class name: [sentence, ...]}; "": use an ensemble of templates'
    )


def sentence_features(clip: CLIP, path: str, classnames: Sequence[str]) -> torch.Tensor:
    """Return the frozen text features (n_sentences, n_classes, embed_dim), normalised.

    Args:
        path: JSON file with sentences about each class. "": each template of the ensemble gives a sentence.

    Raises:
        InputError: the file isn't valid, a class has no sentences, or two classes have different numbers of sentences.
    """
    if not path:
        return torch.stack([frozen_text_features(clip, [text], classnames) for text in ENSEMBLE_TEMPLATES])
    sentences = read_json(path)
    names = [name.replace("_", " ") for name in classnames]
    missing = [name for name in names if not (isinstance(sentences, dict) and sentences.get(name))]
    if missing:
        raise InputError(f"{path} (TRAINER.CoPrompt.SENTENCES) has no sentences about {', '.join(missing)}")
    counts = {name: len(sentences[name]) for name in names}
    if len(set(counts.values())) > 1:
        raise InputError(f"{path} (TRAINER.CoPrompt.SENTENCES) must have equally many sentences per class: {counts}")
    rows = zip(*(sentences[name] for name in names), strict=True)  # one sentence of each class
    return torch.stack([frozen_text_features(clip, ["{}"], row) for row in rows])


class CoPromptCLIP(MaPLeCLIP):
    """MaPLe with adapters, and with losses that compare features with those of the frozen CLIP."""

    options: CoPromptOptions
    classnames: Sequence[str]
    ignored_keys = ("model_distill.",)  # the official code saves a second, frozen CLIP

    def __init__(self, options: CoPromptOptions, clip: CLIP, classnames: Sequence[str], template: str):
        check_depth(clip, options.PROMPT_DEPTH, "TRAINER.CoPrompt.PROMPT_DEPTH")
        if options.DISTILL not in DISTANCES:
            raise unknown("distance (TRAINER.CoPrompt.DISTILL)", options.DISTILL, DISTANCES)
        super().__init__(options, clip, classnames, template)
        self.adapter_image = FeatureAdapter(clip.sizes.embed_dim, share=0.1)
        self.adapter_text = FeatureAdapter(clip.sizes.embed_dim, share=0.2)

    def encode_text(self) -> torch.Tensor:
        return self.adapter_text(super().encode_text())

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return self.adapter_image(super().encode_image(images))

    @cached_property
    def teacher(self) -> torch.Tensor:
        """The frozen text features (n_sentences, n_classes, embed_dim), computed in the first training step."""
        return sentence_features(self.clip, self.options.SENTENCES, self.classnames)

    def draw_sentence(self) -> torch.Tensor:
        """Draw the number of the sentence that all classes use in this step. Return it as a tensor (1,)."""
        return torch.randint(len(self.teacher), (1,), device=self.teacher.device)

    def losses(self, output: Output, batch: Batch) -> Losses:
        assert output.text_features is not None
        other_view = batch.views[-1] if batch.views else batch.images
        images = frozen_image_features(self.clip, other_view)  # (batch, embed_dim)
        text = self.teacher.index_select(0, self.draw_sentence())[0]  # (n_classes, embed_dim)
        distance, weight = DISTANCES[self.options.DISTILL], self.options.W
        return {
            "ce": (1.0, F.cross_entropy(output.logits, batch.labels)),
            "text": (weight, distance(output.text_features, text)),
            "image": (weight, distance(output.image_features, images)),
        }


#: {data set: (PROMPT_DEPTH, N_CTX, W, name of the official file of sentences)}
_BY_DATASET = {
    "ImageNet": (12, 4, 8.0, "imagenet"),
    "Caltech101": (12, 4, 4.0, "caltech"),
    "OxfordPets": (12, 2, 0.1, "oxford_pets"),
    "StanfordCars": (12, 4, 4.0, "stanford_cars"),
    "OxfordFlowers": (9, 4, 8.0, "oxford_flowers"),
    "Food101": (9, 4, 0.5, "food101"),
    "FGVCAircraft": (9, 4, 2.0, "fgvc"),
    "SUN397": (12, 4, 8.0, "sun397"),
    "DescribableTextures": (12, 2, 8.0, "dtd"),
    "EuroSAT": (12, 2, 0.1, "eurosat"),
    "UCF101": (12, 4, 2.0, "ucf101"),
}


@TRAINER_REGISTRY.register()
class CoPrompt(PromptTrainer):
    """Trains CoPrompt. With ViT-B/16 and the default options, CoPrompt learns 3,817,216 parameters."""

    method = CoPromptCLIP
    options = CoPromptOptions
    node = "CoPrompt"
    checkpoints = {"MultiModalPromptLearner": ""}
    default_config = "coprompt"
    official_keys = {"TRAINER.W": "TRAINER.CoPrompt.W", "TRAINER.DISTILL": "TRAINER.CoPrompt.DISTILL"}

    @classmethod
    def values(cls, dataset: str, protocol: str, shots: int) -> dict[str, object]:
        """Return the official code's values for the data set on which the prompts are trained."""
        trained_on = training_dataset(dataset, protocol)
        if trained_on not in _BY_DATASET:
            return {}
        depth, n_ctx, weight, name = _BY_DATASET[trained_on]
        values: dict[str, object] = {"PROMPT_DEPTH": depth, "N_CTX": n_ctx, "W": weight}
        values["SENTENCES"] = f"gpt_file/{name}_prompt.json"
        found = {f"TRAINER.CoPrompt.{key}": value for key, value in values.items()}
        return found | ({"OPTIM.MAX_EPOCH": 5} if trained_on == "Food101" else {})

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        if cfg.TEST.EVAL_ONLY:
            return  # sentences and further views are only needed in training
        if cfg.DATALOADER.K_TRANSFORMS < 2:
            raise InputError("CoPrompt compares two augmentations of each image. Set DATALOADER.K_TRANSFORMS 2")
        file = cfg.TRAINER.CoPrompt.SENTENCES
        if file and not Path(file).is_file():
            raise InputError(
                f"TRAINER.CoPrompt.SENTENCES is {file}, which doesn't exist. Copy the folder gpt_file of CoPrompt's "
                'official code into this folder, or set TRAINER.CoPrompt.SENTENCES "" to use templates instead'
            )
