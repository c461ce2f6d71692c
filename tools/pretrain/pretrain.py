"""Pretrains ViT-Mini/8 on emoji drawings and writes assets/vit-mini/weights.safetensors.

`scripts/mini/pretrain.sh` runs this file. The model has 2.7 million parameters, but there are only few drawings. Four
techniques are needed to get an accuracy above chance level:

* The outputs of the image tower are batch-normalised. At the end, the batch norm is folded into `ln_post` and `proj`.
* Each class has a learned vector, its anchor. In addition to the InfoNCE loss, the features of both towers are trained
  to match the anchor.
* The optimizer Muon trains the matrices of both towers' blocks.
* The drawings are rendered as scenes that get harder during training.

The outputs of the text tower aren't batch-normalised, and AdamW doesn't train its matrices. With both, nothing limits
the size of the residual stream or of what all captions have in common. The stream grew to a standard deviation of
1,600. The features were small differences of large numbers, so half precision could not represent them.
`tools/pretrain/conditioning.py` measures this.
"""

import argparse
import copy
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from clip import mini
from clip.model import CLIP
from clip.sizes import Sizes
from datasets.scenes import DrawnClass, Scene, rasterise, read_drawings, render
from tools.pretrain.captions import Captions
from tools.pretrain.evaluate import to_input, zero_shot
from tools.pretrain.packages import SHARE_ALIKE, Icons, fetch

ROOT = Path(__file__).resolve().parents[2]
SEED = 1
NAMES = 56  # number of classes in a batch; each class has two images
SIZES = Sizes(
    embed_dim=128, image_resolution=48, vision_layers=6, vision_width=128, vision_patch_size=8, vision_heads=2,
    vision_mlp=512, context_length=77, vocab_size=49408, transformer_width=128, transformer_heads=2,
    transformer_layers=6, transformer_mlp=512,
)  # fmt: skip
#: Styles that aren't used for training. The test uses the first two of these styles.
HELD_OUT = ("noto", "fluent", "fluent-line")
HARDEST = Scene(hidden=0.2, warp=0.06, recolour=0.6)


class Batches(Dataset):
    """The training batches. Batch i depends only on SEED and i, so the number of workers doesn't change the batches.

    A batch is a pair (labels, images). `labels` holds the classes in the batch, (NAMES,). `images` holds two adjacent
    images of each class, (2 * NAMES, 48, 48, 3), uint8.
    """

    def __init__(self, drawings: list[list[np.ndarray]], steps: int):
        self.drawings, self.steps = drawings, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([SEED, step])
        hardest = min(1.0, max(0.0, (step / self.steps - 0.15) / 0.5))
        labels = rng.choice(len(self.drawings), NAMES, replace=False)
        images = []
        for label in labels:
            drawings = self.drawings[label]
            for which in rng.choice(len(drawings), 2, replace=len(drawings) < 2):
                images.append(render(drawings[which], HARDEST.softened(hardest * rng.random()), rng))
        return labels, np.stack(images)


class Pretraining(nn.Module):
    """A CLIP with a batch norm for image features and an anchor for each class. Only pretraining needs both parts."""

    def __init__(self, classes: int, vocabulary: int):
        super().__init__()
        self.clip = CLIP(dataclasses.replace(SIZES, vocab_size=vocabulary))
        _initialise(self.clip)
        self.norm = nn.BatchNorm1d(SIZES.embed_dim, affine=False)
        self.anchors = nn.Parameter(torch.randn(classes, SIZES.embed_dim))

    def forward(self, images: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch.

        The loss is the sum of InfoNCE and of two cross entropies. Each cross entropy compares one tower's features with
        the anchors. In the shapes below, `names` is the number of classes in the batch.

        Args:
            images: two adjacent images of each class in the batch, (2 * names, 3, 48, 48).
            ids: a caption of each class in the batch, as indices into `Captions.rows`, (names, 77).
            labels: the index of each class in the batch, (names,).
        """
        image_features = F.normalize(self.norm(self.clip.encode_image(images)), dim=-1)  # (2 * names, embed_dim)
        text_features = F.normalize(self.clip.encode_text(ids), dim=-1)  # (names, embed_dim)
        scale = self.clip.logit_scale.exp().clamp(max=100)
        name_of_image = torch.arange(len(labels)).repeat_interleave(2)  # (2 * names,)
        logits = scale * image_features @ text_features.t()  # (2 * names, names)
        to_images = logits.t().log_softmax(-1).unflatten(1, (-1, 2)).diagonal(dim1=0, dim2=1)  # (2, names)
        contrastive = (F.cross_entropy(logits, name_of_image) - to_images.mean()) / 2
        anchors = 16 * F.normalize(self.anchors, dim=-1).t()  # (embed_dim, classes)
        to_anchors = F.cross_entropy(image_features @ anchors, labels.repeat_interleave(2), label_smoothing=0.1)
        return contrastive + to_anchors + F.cross_entropy(text_features @ anchors, labels)


def _initialise(clip: CLIP) -> None:
    """Initialise the weights randomly, with the standard deviations of OpenAI's code.

    Only the embeddings of tokens and positions are larger. OpenAI's would be as small as the first blocks' outputs.
    """
    for transformer in (clip.transformer, clip.vision_transformer.transformer):
        width, layers = transformer.width, transformer.layers
        deviations = {
            "attn.in_proj_weight": width**-0.5,
            "attn.out_proj.weight": (2 * layers * width) ** -0.5,
            "mlp.c_fc.weight": (2 * width) ** -0.5,
            "mlp.c_proj.weight": (2 * layers * width) ** -0.5,
        }
        for block in transformer.blocks():
            for name, deviation in deviations.items():
                nn.init.normal_(block.get_parameter(name), std=deviation)
    nn.init.normal_(clip.token_embedding.weight, std=0.3)
    nn.init.normal_(clip.positional_embedding, std=0.1)


def load_drawings(packages: Path) -> tuple[list[DrawnClass], list[list[np.ndarray]], dict[str, list[np.ndarray]]]:
    """Read the drawings. A package that is missing in the folder `packages` is downloaded.

    Returns:
        1. the classes;
        2. the training drawings of each class;
        3. a dict that maps each held-out style ("noto", "fluent") to a list with one drawing of each class.
    """
    classes = read_drawings()["classes"]
    more = [Icons(fetch(package, version, packages)) for package, version, *_ in SHARE_ALIKE.values()]
    learned = []
    for entry in classes:
        svgs = [svg for style, svg in entry["drawings"].items() if style not in HELD_OUT]
        svgs += [svg for icons in more if (svg := icons.svg(entry["name"].replace(" ", "-")))]
        learned.append([rasterise(svg) for svg in svgs])
    held_out = {style: [rasterise(entry["drawings"][style]) for entry in classes] for style in HELD_OUT[:2]}
    return classes, learned, held_out


def optimizers(model: Pretraining) -> list[torch.optim.Optimizer]:
    """Return two optimizers: Muon for the matrices of both towers' blocks, and AdamW for all other parameters."""
    towers = (model.clip.vision_transformer.transformer, model.clip.transformer)
    matrices = [p for tower in towers for p in tower.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=3e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [
                {"params": [p for p in others if p.ndim > 1], "weight_decay": 0.05},
                {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=2e-3, betas=(0.9, 0.98),
        ),
    ]  # fmt: skip


def drop_patches(share: float) -> Callable[[nn.Module, tuple[torch.Tensor]], torch.Tensor]:
    """Return a forward pre-hook for `ln_pre` that drops a random share of every image's patches, as in FLIP."""

    def hook(_: nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
        x = inputs[0]  # (N, 1 + patches, width); x[:, 0] is the class token
        count = x.shape[1] - 1
        rows = torch.rand(len(x), count).argsort(1)[:, : round(count * (1 - share))] + 1
        rows = torch.cat([torch.zeros(len(x), 1, dtype=rows.dtype), rows], 1)  # (N, 1 + remaining patches)
        return x.gather(1, rows[..., None].expand(-1, -1, x.shape[2]))

    return hook


@torch.no_grad()
def folded(clip: CLIP, mean: torch.Tensor, variance: torch.Tensor) -> CLIP:
    """Return a copy of the CLIP whose `ln_post` and `proj` include the batch norm of the image features.

    The image features of the copy equal the batch-normalised features of the CLIP, up to rounding errors.

    Args:
        mean: mean of the image tower's outputs, (embed_dim,).
        variance: variance of the image tower's outputs, (embed_dim,).
    """
    clip = copy.deepcopy(clip).eval()
    tower = clip.vision_transformer
    tower.ln_pre._forward_pre_hooks.clear()
    projection = tower.proj.double()  # (width, embed_dim)
    # The mean is moved into the bias b of the layer norm: (ln(x) w + b) P - mean = (ln(x) w + b - mean inv(P)) P
    tower.ln_post.bias.sub_((mean.double() @ torch.linalg.inv(projection)).float())
    tower.proj.copy_(projection / (variance.double() + 1e-5).sqrt())
    return clip


@torch.no_grad()
def output_statistics(clip: CLIP, loader: DataLoader) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean and the variance of the image tower's outputs over all batches, each (embed_dim,), in float64.

    No patches are dropped.
    """
    outputs = torch.cat([clip.encode_image(to_input(images)) for _, images in loader]).double()  # (N, embed_dim)
    return outputs.mean(0), outputs.var(0, unbiased=False)


def train(
    model: Pretraining,
    loader: DataLoader,
    captions: Captions,
    steps: int,
    look: Callable[[CLIP], None],
    looks: int = 9,
) -> None:
    """Train the model.

    Args:
        steps: number of training steps.
        look: function that is called at regular intervals during training. Its argument is a copy of the CLIP into
            which the batch norm is folded.
        looks: number of calls of `look`.
    """
    both = optimizers(model)
    groups = [group for optimizer in both for group in optimizer.param_groups]
    rates = [group["lr"] for group in groups]
    hook = model.clip.vision_transformer.ln_pre.register_forward_pre_hook(drop_patches(0.25))
    rng, start, losses = np.random.default_rng(SEED), time.time(), []
    for step, (labels, images) in enumerate(loader):
        factor = min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * factor
        loss = model(to_input(images), captions.draw(labels, rng), labels)
        for optimizer in both:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in both:
            optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            left = (time.time() - start) / (step + 1) * (steps - step - 1) / 60
            print(f"{step + 1}/{steps}: loss {sum(losses[-50:]) / 50:.3f}, {left:.0f} min left", flush=True)
        if (step + 1) % (steps // looks) == 0:
            look(folded(model.clip, model.norm.get_buffer("running_mean"), model.norm.get_buffer("running_var")))
    hook.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, help="folder of the npm packages (missing packages are downloaded)")
    parser.add_argument("--steps", type=int, default=7200, help="number of training steps")
    parser.add_argument("--out", type=Path, default=mini.FILE, help="file to write the weights to")
    args = parser.parse_args()
    if not hasattr(torch.optim, "Muon"):
        parser.error(f"the pretraining needs torch 2.9 or newer, but this is torch {torch.__version__}")
    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    classes, learned, held_out = load_drawings(args.packages)
    captions = Captions(classes)
    batches = Batches(learned, args.steps)
    model = Pretraining(len(classes), len(captions.rows))
    scene = Scene().softened(0.5)

    def look(clip: CLIP) -> None:
        figures = zero_shot(clip, captions, classes, held_out, scene)
        print(", ".join(f"{name} {figure:.1f}" for name, figure in figures.items()), flush=True)

    train(model, DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=8), captions, args.steps, look)
    model.eval()
    last = DataLoader(Subset(batches, range(args.steps, args.steps + 40)), batch_size=None)
    clip = folded(model.clip, *output_statistics(model.clip, last))
    mini.save(clip.state_dict(), captions.rows, args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB, zero-shot")
    look(clip)


if __name__ == "__main__":
    main()
