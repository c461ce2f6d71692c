"""The names that files written for CoOp import from `trainers.coop`: a loader of CLIP, and CoOp's model as modules.

`trainers/coop.py` exports these names. Our own methods don't use them. A file that changes CoOp's model often derives
from these classes, so their constructors, attributes and results are those of the original code. They compute whole
prompts (n_classes, context length, width), and work on any CLIP with the attributes of OpenAI's.
"""

from collections.abc import Sequence

import torch
from torch import nn
from yacs.config import CfgNode

from clip.clip import tokenize
from clip.loading import load_clip
from clip.model import CLIP, convert_weights
from clip.simple_tokenizer import tokenizer
from dassl.utils import unknown
from trainers.common.prompts import start_coop_context


def load_clip_to_cpu(cfg: CfgNode) -> CLIP:
    """Load the CLIP that MODEL.BACKBONE names. Its weights are in half precision on the CPU, and need gradients."""
    clip = load_clip(cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.PATH).requires_grad_(True)
    convert_weights(clip)
    return clip


class TextEncoder(nn.Module):
    """CLIP's text tower, which takes embeddings instead of token ids."""

    def __init__(self, clip_model: CLIP):
        super().__init__()
        self.transformer = clip_model.transformer
        self.positional_embedding = clip_model.positional_embedding
        self.ln_final = clip_model.ln_final
        self.text_projection = clip_model.text_projection
        self.dtype = clip_model.dtype

    def forward(self, prompts: torch.Tensor, tokenized_prompts: torch.Tensor) -> torch.Tensor:
        """Encode prompts as features (n_classes, embed_dim), not normalised.

        Args:
            prompts: embeddings (n_classes, context length, width).
            tokenized_prompts: token ids (n_classes, context length), which show where each prompt ends.
        """
        x = prompts + self.positional_embedding.type(self.dtype)
        x = self.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)  # the transformer takes (length, batch, width)
        x = self.ln_final(x).type(self.dtype)
        ends = tokenized_prompts.argmax(dim=-1)  # (n_classes,) EOT has the largest id
        return x[torch.arange(len(x), device=x.device), ends] @ self.text_projection


class PromptLearner(nn.Module):
    """CoOp's learned context `ctx`, and the embeddings of the rest of the prompts.

    The config node TRAINER.COOP gives the options. `trainers/coop.py` explains them.
    """

    def __init__(self, cfg: CfgNode, classnames: Sequence[str], clip_model: CLIP):
        super().__init__()
        options = cfg.TRAINER.COOP
        copies = len(classnames) if options.CSC else 0
        context, template = start_coop_context(clip_model, options.N_CTX, options.CTX_INIT, copies)
        self.ctx = nn.Parameter(context.type(clip_model.dtype))  # (n_ctx, width) or (n_classes, n_ctx, width)
        self.n_cls, self.n_ctx = len(classnames), context.shape[-2]
        names = [name.replace("_", " ") for name in classnames]
        self.name_lens = [len(tokenizer().encode(name)) for name in names]
        self.tokenized_prompts = torch.cat([tokenize(template.replace("{}", name)) for name in names])
        with torch.no_grad():
            embedding = clip_model.token_embedding(self.tokenized_prompts).type(clip_model.dtype)
        self.register_buffer("token_prefix", embedding[:, :1])  # (n_classes, 1, width): SOS
        self.register_buffer("token_suffix", embedding[:, 1 + self.n_ctx :])  # class name, ".", EOT and padding
        self.class_token_position = options.CLASS_TOKEN_POSITION
        if self.class_token_position not in ("end", "middle", "front"):
            raise unknown(
                "position of the class name (CLASS_TOKEN_POSITION)",
                self.class_token_position,
                ("end", "middle", "front"),
            )

    def forward(self) -> torch.Tensor:
        """Return the embeddings of all prompts, (n_classes, context length, width)."""
        context = self.ctx if self.ctx.ndim == 3 else self.ctx.expand(self.n_cls, -1, -1)
        prefix, suffix = self.get_buffer("token_prefix"), self.get_buffer("token_suffix")
        before = {"end": self.n_ctx, "middle": self.n_ctx // 2, "front": 0}[self.class_token_position]
        rows = []
        for label, n_name in enumerate(self.name_lens):
            n_moved = 0 if self.class_token_position == "end" else n_name  # tokens of the name within the context
            parts = [context[label, :before], suffix[label, :n_moved], context[label, before:], suffix[label, n_moved:]]
            rows.append(torch.cat([prefix[label], *parts]))  # (context length, width)
        return torch.stack(rows)


class CustomCLIP(nn.Module):
    """CoOp's model. It maps images to logits."""

    def __init__(self, cfg: CfgNode, classnames: Sequence[str], clip_model: CLIP):
        super().__init__()
        self.prompt_learner = PromptLearner(cfg, classnames, clip_model)
        self.tokenized_prompts = self.prompt_learner.tokenized_prompts
        self.image_encoder = clip_model.visual
        self.text_encoder = TextEncoder(clip_model)
        self.logit_scale = clip_model.logit_scale
        self.dtype = clip_model.dtype

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits (batch, n_classes) of images (batch, 3, resolution, resolution)."""
        image_features = self.image_encoder(image.type(self.dtype))
        text_features = self.text_encoder(self.prompt_learner(), self.tokenized_prompts)
        image_features = image_features / image_features.norm(dim=-1, keepdim=True)
        text_features = text_features / text_features.norm(dim=-1, keepdim=True)
        return self.logit_scale.exp() * image_features @ text_features.t()
