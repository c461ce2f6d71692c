"""Prints the words that are nearest to learned text prompts. `interpret_prompts/interpret_prompt.py` calls `main`.

    python interpret_prompts/interpret_prompt.py output/.../MultiModalPromptLearner/model.pth.tar-5 3

The nearest words of a context vector are the tokens whose embeddings have the smallest Euclidean distance to the vector
(CoOp, section 4.4). The words are printed for the context vectors of all layers, and of all classes or tasks.
--backbone or --backbone-path selects the CLIP whose token embeddings are used. The default is the CLIP in the run's
config.yaml.
"""

import argparse
from pathlib import Path
from typing import TypedDict

import torch

from clip.loading import load_clip
from clip.simple_tokenizer import tokenizer
from dassl.config import read_config_file
from dassl.utils import InputError, load_checkpoint, write_json
from train import report_errors


class Word(TypedDict):
    """A token and its Euclidean distance to a context vector."""

    word: str
    distance: float


class Row(TypedDict):
    """The nearest words of one context vector. --json writes a list of rows."""

    prompt: str  # name of the prompt in the checkpoint
    vector: int  # position of the vector in the prompt, starting at 1
    words: list[Word]


def read_prompts(path: str, width: int) -> dict[str, torch.Tensor]:
    """Return the text prompts in a checkpoint, as a dict that maps names to vectors (n_vectors, width).

    The checkpoint may come from this project or from a method's official code.

    Raises:
        InputError: the checkpoint has no text prompts of this width.
    """
    checkpoint = load_checkpoint(path)
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise InputError(f"{path} isn't a checkpoint, because it has no state_dict")
    found: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        parts = name.split(".")
        is_context = parts[-1] == "ctx" or "compound_prompts_text" in parts
        is_deep = parts[-1] == "VPT_shallow" and parts[0] != "image_encoder"
        if (is_context or is_deep) and isinstance(tensor, torch.Tensor) and tensor.shape[-1:] == (width,):
            if not torch.isfinite(tensor).all():
                raise InputError(f"{path}: {name} contains infinite or NaN values")
            if tensor.ndim == 3:  # (n_classes or n_tasks, n_vectors, width)
                found |= {f"{name}[{number}]": prompt for number, prompt in enumerate(tensor)}
            else:
                found[name] = tensor
    if not found:
        raise InputError(f"{path} has no text prompts of width {width}. Some of its keys: {', '.join(list(state)[:8])}")
    return found


def nearest(prompts: dict[str, torch.Tensor], embedding: torch.Tensor, topk: int) -> list[Row]:
    """Return the `topk` nearest words of every vector.

    Args:
        prompts: maps the name of each prompt to its vectors (n_vectors, width).
        embedding: token embeddings (n_tokens, width).
        topk: number of words for each vector.
    """
    decoder = tokenizer().decoder
    rows: list[Row] = []
    for name, prompt in prompts.items():
        distances, ids = torch.cdist(prompt.float(), embedding.float()).topk(topk, largest=False)  # (n_vectors, topk)
        for vector, (close, tokens) in enumerate(zip(distances.tolist(), ids.tolist(), strict=True), 1):
            words: list[Word] = [
                {"word": decoder[token].replace("</w>", ""), "distance": round(distance, 4)}
                for token, distance in zip(tokens, close, strict=True)
            ]
            rows.append({"prompt": name, "vector": vector, "words": words})
    return rows


def token_embeddings(checkpoint: str, name: str, path: str) -> torch.Tensor:
    """Return the token embeddings (n_tokens, width) of the CLIP that the prompts were learned with.

    Args:
        checkpoint: file of the learned prompts, in a subfolder of the run's folder.
        name: name of the backbone, or "".
        path: file of the backbone's weights, or "".

    If `name` and `path` are both "", the name and the file are read from the run's config.yaml. If the run has no
    config.yaml, the backbone is ViT-B/16.
    """
    config = Path(checkpoint).resolve().parent.parent / "config.yaml"
    if not (name or path) and config.is_file():
        settings = read_config_file(config)
        name, path = (
            str(settings[f"MODEL.BACKBONE.{key}"].value) if f"MODEL.BACKBONE.{key}" in settings else ""
            for key in ("NAME", "PATH")
        )
    model = load_clip(name or "ViT-B/16", path)
    embedding = model.token_embedding.weight.clone()
    if model.trained_rows is not None:
        embedding[~model.trained_rows] = 1e4  # far from every prompt, so that no nearest word is untrained
    return embedding


def main(argv: list[str]) -> int:
    """Print the nearest words of learned prompts. Returns the exit code: 0, or 2 if the input is invalid."""
    parser = argparse.ArgumentParser(description="Nearest words of learned prompts.")
    parser.add_argument("fpath", metavar="FILE", help="checkpoint with learned text prompts")
    parser.add_argument("topk", type=int, metavar="TOPK", help="number of words for each vector")
    parser.add_argument(
        "--backbone",
        default="",
        help="name of the CLIP (default: the run's CLIP, or ViT-B/16 if the run has no config.yaml)",
    )
    parser.add_argument("--backbone-path", default="", help="file of the CLIP's weights")
    parser.add_argument("--json", default="", help="also write the words to this file")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)

    def job() -> None:
        try:
            embedding = token_embeddings(args.fpath, args.backbone, args.backbone_path)
        except (ValueError, RuntimeError) as error:
            raise InputError(str(error)) from error
        if not 1 <= args.topk <= len(embedding):
            raise InputError(f"TOPK must be from 1 to {len(embedding)}, not {args.topk}")
        rows = nearest(read_prompts(args.fpath, embedding.shape[1]), embedding, args.topk)
        for row in rows:
            words = "  ".join(f"{word['word']} {word['distance']:.4f}" for word in row["words"])
            print(f"{row['prompt']} {row['vector']}: {words}")
        if args.json:
            write_json(rows, args.json)

    return report_errors(job, args.debug)
