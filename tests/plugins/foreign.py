"""Trainers in the forms of files that were written for CoOp and MaPLe: their loader, their names, their config keys.

Written from notes on the forms; the methods are toys. None of these trainers uses `trainers.base`.
"""

import torch
from torch import nn
from torch.nn import functional as F

from clip import clip
from clip.simple_tokenizer import SimpleTokenizer as _Tokenizer
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_pretrained_weights
from trainers.coop import CustomCLIP, TextEncoder, load_clip_to_cpu
from trainers.imagenet_templates import IMAGENET_TEMPLATES, IMAGENET_TEMPLATES_SELECT

_tokenizer = _Tokenizer()


def load_by_name(cfg, **design):
    """The loader that nearly every file contains."""
    path = clip._download(clip._MODELS[cfg.MODEL.BACKBONE.NAME])
    try:
        archive = torch.jit.load(path, map_location="cpu").eval()
        state = None
    except RuntimeError:
        state = torch.load(path, map_location="cpu")
    return clip.build_model(state or archive.state_dict(), *([design] if design else []))


class Learner(nn.Module):
    """A shift of each class's text feature."""

    def __init__(self, cfg, classnames, clip_model):
        super().__init__()
        assert all(_tokenizer.encode(name) for name in classnames)
        self.w = cfg.TRAINER.COOP.W  # this key is declared by their extend_cfg alone
        text = [cfg.TRAINER.FOREIGN.TEMPLATE.format(name.replace("_", " ")) for name in classnames]
        with torch.no_grad():
            self.features = clip_model.encode_text(clip.tokenize(text)).float()
        self.shift = nn.Parameter(torch.zeros_like(self.features))

    def forward(self):
        return F.normalize(self.features + self.w * self.shift, dim=-1)


class Shifted(nn.Module):
    def __init__(self, cfg, classnames, clip_model):
        super().__init__()
        self.prompt_learner = Learner(cfg, classnames, clip_model)
        self.image_encoder, self.logit_scale = clip_model.visual, clip_model.logit_scale
        self.dtype = clip_model.dtype

    def forward(self, image):
        features = F.normalize(self.image_encoder(image.type(self.dtype)).float(), dim=-1)
        return self.logit_scale.exp() * features @ self.prompt_learner().t()


class ForeignTrainer(TrainerX):
    """What all of them share: freezing by name, an optimiser for the prompt learner, a loss."""

    def build(self, clip_model, classnames):
        return Shifted(self.cfg, classnames, clip_model)

    def load_clip(self):
        return load_by_name(self.cfg)

    def build_model(self):
        cfg = self.cfg
        clip_model = self.load_clip().float()
        assert clip_model.visual.input_resolution == cfg.INPUT.SIZE[0]
        self.model = self.build(clip_model, self.dm.dataset.classnames)
        for name, parameter in self.model.named_parameters():
            if "prompt_learner" not in name:
                parameter.requires_grad_(False)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model.prompt_learner, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        self.optim = build_optimizer(self.model.prompt_learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", self.model.prompt_learner, self.optim, self.sched)

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)


@TRAINER_REGISTRY.register()
class OwnLoader(ForeignTrainer):
    """Finds CLIP by its name, and reads config keys of its own train.py."""


@TRAINER_REGISTRY.register()
class PackageLoader(ForeignTrainer):
    """Calls clip.load."""

    def load_clip(self):
        return clip.load(self.cfg.MODEL.BACKBONE.NAME, device="cpu")[0]


@TRAINER_REGISTRY.register()
class NamesOfCoOp(ForeignTrainer):
    """Imports the loader and the model of CoOp."""

    def load_clip(self):
        return load_clip_to_cpu(self.cfg)

    def build(self, clip_model, classnames):
        return CustomCLIP(self.cfg, classnames, clip_model)


@TRAINER_REGISTRY.register()
class ZeroshotOfCoOp(TrainerX):
    """Has no optimiser; averages templates."""

    def build_model(self):
        clip_model = load_clip_to_cpu(self.cfg).float()
        templates = IMAGENET_TEMPLATES_SELECT + IMAGENET_TEMPLATES[:2]
        features = 0
        for template in templates:
            ids = torch.cat([clip.tokenize(template.format(name)) for name in self.dm.dataset.classnames])
            features = features + F.normalize(clip_model.encode_text(ids), dim=-1)
        self.text_features, self.clip_model = F.normalize(features, dim=-1), clip_model

    def model_inference(self, image):
        features = F.normalize(self.clip_model.encode_image(image), dim=-1)
        return self.clip_model.logit_scale.exp() * features @ self.text_features.t()


class Patched(ForeignTrainer):
    """Needs a changed copy of CLIP."""

    design = {"vision_depth": 0, "language_depth": 0, "vision_ctx": 0, "language_ctx": 0}

    def load_clip(self):
        return load_by_name(self.cfg, **self.design)


@TRAINER_REGISTRY.register()
class PlainDesign(Patched):
    """Passes a design without prompts, as CoOp does in MaPLe's repository."""

    design = Patched.design | {"trainer": "CoOp"}


@TRAINER_REGISTRY.register()
class OfficialMaPLe(Patched):
    design = Patched.design | {"trainer": "MaPLe", "maple_length": 2}


@TRAINER_REGISTRY.register()
class DeepTowers(Patched):
    design = Patched.design | {"trainer": "IVLP", "vision_depth": 9, "vision_ctx": 4}


class PatchedText(TextEncoder):
    """Calls the transformer with a mask, or with a list of prompts."""

    extra: tuple = ()

    def forward(self, prompts, tokenized_prompts):
        x = prompts.permute(1, 0, 2)
        return self.transformer(x, *self.extra) if self.extra else self.transformer([x, [], 0])[0]


@TRAINER_REGISTRY.register()
class ListOfPrompts(NamesOfCoOp):
    def build(self, clip_model, classnames):
        model = super().build(clip_model, classnames)
        model.text_encoder = PatchedText(clip_model)
        return model


@TRAINER_REGISTRY.register()
class MaskedText(ListOfPrompts):
    def build(self, clip_model, classnames):
        model = super().build(clip_model, classnames)
        model.text_encoder.extra = (torch.zeros(77, 77),)
        return model


class PatchedImages(CustomCLIP):
    def forward(self, image):
        return self.image_encoder(image, torch.zeros(2, 4), [])


@TRAINER_REGISTRY.register()
class PromptedImages(NamesOfCoOp):
    def build(self, clip_model, classnames):
        return PatchedImages(self.cfg, classnames, clip_model)
