"""The nearest words of learned text prompts: interpret_prompt.py FILE TOPK.

    python interpret_prompts/interpret_prompt.py output/.../MultiModalPromptLearner/model.pth.tar-5 3

FILE is a checkpoint of any method, ours or an official one. For every context vector of every layer (and class or
task) prints the TOPK tokens whose embeddings are nearest (Euclidean distance, as in CoOp, section 4.4). The embeddings
are those of the CLIP that config.yaml beside the run names, of --backbone, or of --backbone-path. --json writes the
same as a list of {"prompt", "vector", "words": [{"word", "distance"}]}.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import yaml

from clip.loading import load_clip
from clip.simple_tokenizer import tokenizer
from dassl.utils import InputError, load_checkpoint, report_errors, write_json


def text_prompts(path: str, width: int) -> dict[str, torch.Tensor]:
    """Prompts of the text tower in a checkpoint, name -> (vectors, width): contexts of layer 0 and of deeper layers."""
    state = load_checkpoint(path)["state_dict"]
    found: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        parts = name.split(".")
        is_context = parts[-1] == "ctx" or "compound_prompts_text" in parts
        is_deep = parts[-1] == "VPT_shallow" and parts[0] != "image_encoder"
        if (is_context or is_deep) and tensor.shape[-1] == width:
            if tensor.ndim == 3:  # of every class or task
                found |= {f"{name}[{number}]": prompt for number, prompt in enumerate(tensor)}
            else:
                found[name] = tensor
    if not found:
        raise InputError(f"{path} has no text prompts {width} wide; it has: {', '.join(list(state)[:8])}")
    return found


def nearest(prompts: dict[str, torch.Tensor], embedding: torch.Tensor, topk: int) -> list[dict]:
    """For every vector of every prompt its `topk` nearest rows of `embedding` (tokens, width), as words."""
    decoder = tokenizer().decoder
    rows = []
    for name, prompt in prompts.items():
        distances, ids = torch.cdist(prompt.float(), embedding.float()).topk(topk, largest=False)
        for vector, (close, tokens) in enumerate(zip(distances.tolist(), ids.tolist(), strict=True), 1):
            words = [
                {"word": decoder[token].replace("</w>", ""), "distance": round(distance, 4)}
                for token, distance in zip(tokens, close, strict=True)
            ]
            rows.append({"prompt": name, "vector": vector, "words": words})
    return rows


def backbone(args: argparse.Namespace) -> torch.Tensor:
    """Token embeddings (tokens, width) of the CLIP that the prompts were learned with."""
    name, path = args.backbone, args.backbone_path
    config = Path(args.fpath).resolve().parents[1] / "config.yaml"
    if not (name or path) and config.is_file():
        opts = yaml.safe_load(config.read_text())["MODEL"]["BACKBONE"]
        name, path = opts["NAME"], opts["PATH"]
    model = load_clip(name or "ViT-B/16", path)
    embedding = model.token_embedding.weight.clone()
    if model.trained_rows is not None:
        embedding[~model.trained_rows] = 1e4  # words it never saw are nobody's neighbours
    return embedding


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Nearest words of learned prompts.")
    parser.add_argument("fpath", metavar="FILE", help="a checkpoint")
    parser.add_argument("topk", type=int, metavar="TOPK", help="how many words a vector")
    parser.add_argument("--backbone", default="", help="name of the CLIP (default: the run's, else ViT-B/16)")
    parser.add_argument("--backbone-path", default="", help="its weights on this machine")
    parser.add_argument("--json", default="", help="file to write")
    parser.add_argument("--debug", action="store_true")
    args = parser.parse_args(argv)

    def job() -> None:
        try:
            embedding = backbone(args)
        except (ValueError, RuntimeError) as error:
            raise InputError(str(error)) from error
        rows = nearest(text_prompts(args.fpath, embedding.shape[1]), embedding, args.topk)
        for row in rows:
            words = "  ".join(f"{word['word']} {word['distance']:.4f}" for word in row["words"])
            print(f"{row['prompt']} {row['vector']}: {words}")
        if args.json:
            write_json(rows, args.json)

    return report_errors(job, args.debug)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
