"""Hooks of mkdocs.yml: pages of the site that aren't in docs/, and links between the pages.

MkDocs calls the functions. The pages in docs/ are written for GitHub, where links such as ../CONTRIBUTING.md work. The
site has copies of these files as pages of its own, and an API reference from the docstrings. Links are rewritten.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
#: Files outside docs/ that are pages of the site: path in the project -> path in the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "assets/emoji/README.md": "emoji_drawings.md",
    "assets/vit-mini/README.md": "vit_mini.md",
}
API = "api.md"
#: The API reference: heading -> names whose docstrings it shows.
API_SECTIONS = {
    "Use a classifier": ("inference.classifier.Classifier", "inference.classifier.Prediction"),
    "Write a method": (
        "trainers.common.method.Method",
        "trainers.common.method.Output",
        "trainers.common.method.Batch",
        "trainers.common.options.Options",
        "trainers.common.trainer.PromptTrainer",
        "trainers.common.step_schedule.StepScheduleTrainer",
        "trainers.common.cached_training.CachedTrainer",
        "trainers.common.prompts.ClassPrompts",
        "trainers.common.prompts.PromptLearner",
        "trainers.common.prompts.start_context",
        "trainers.common.teacher.frozen_text_features",
        "trainers.common.teacher.frozen_image_features",
        "trainers.common.rebuild.load_method",
        "clip.inputs.TowerInputs",
        "clip.inputs.BlockAdapter",
        "dassl.config.nodes.described",
    ),
    "Add a data set": (
        "dassl.data.datasets.base_dataset.DatasetBase",
        "dassl.data.datasets.base_dataset.Datum",
        "datasets.base.FewShotDataset",
        "datasets.base.Download",
    ),
    "Registries": ("dassl.utils.registry.Registry",),
    "CLIP": ("clip.clip.load", "clip.clip.tokenize", "clip.clip.available_models"),
}
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s:#]+)(#[^)\s]*)?\)")


def api_page() -> str:
    """Return the API reference as Markdown for mkdocstrings."""
    parts = [
        "# API",
        "The public classes and functions. Methods import theirs from `trainers.base`, programs from `inference`.",
        "The registries are `TRAINER_REGISTRY` in `dassl.engine` and `DATASET_REGISTRY` in `dassl.data.datasets`.",
    ]
    for title, names in API_SECTIONS.items():
        parts += [f"## {title}", *(f"::: {name}" for name in names)]
    return "\n\n".join(parts) + "\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that aren't in docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, API, content=api_page()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the links of a page point to pages of the site. A link to another file becomes plain text."""
    here = page.file.src_uri
    source = next((path for path, name in PAGES.items() if name == here), f"docs/{here}")

    def rewritten(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        name = PAGES.get(path, path.removeprefix("docs/"))
        return f"[{words}]({name}{anchor})" if files.get_file_from_path(name) else words

    return _LINK.sub(rewritten, markdown)
