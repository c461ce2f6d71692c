"""Config nodes and config files of the published methods.

The nodes stand here and not in the methods' files, so that they are there when somebody's own file of the same name
takes the place of ours. A plugin declares its own node in its own file, in a function `extend_cfg(cfg)`.
"""

from pathlib import Path

from yacs.config import CfgNode as CN

from dassl.config import get_cfg_default, merge_file
from dassl.utils.plugins import extend_config, load_plugins

_FILES = Path(__file__).resolve().parents[2] / "configs" / "trainers"


def default_config() -> CN:
    """The defaults, with the nodes of all trainers and plugins."""
    cfg = get_cfg_default()
    add_nodes(cfg)
    extend_config(cfg, [*load_plugins("trainers"), *load_plugins("datasets")])
    return cfg


def run_config(folder: str | Path) -> CN:
    """The config that a run left in its folder. Raises InputError where there is none, or it isn't one."""
    cfg = default_config()
    merge_file(cfg, Path(folder) / "config.yaml")
    return cfg


def default_config_file(
    trainer: type, cross_dataset: bool = False, dataset_file: str | Path = "", asked: str = ""
) -> str:
    """The config file that a trainer class names for itself (or `asked`), empty where it names none.

    For a data set whose file names a backbone, say ViT-Mini/8, it is the trainer's file for that: vit_mini8.yaml, or
    vit_mini8_cross_datasets.yaml where the other's name ends so too. Where there is none, it is the other.
    """
    folder = _FILES / trainer.__name__
    name = asked or getattr(trainer, "default_config", "")
    if cross_dataset and not asked:
        name = getattr(trainer, "cross_dataset_config", "") or name
    backbone = _backbone_of(dataset_file).lower().replace("-", "_").replace("/", "")
    if backbone:
        endings = [file.stem.removeprefix(backbone) for file in folder.glob(f"{backbone}*.yaml")]
        fitting = [ending for ending in endings if name.endswith(ending)]
        name = backbone + max(fitting, key=len) if fitting else name
    return str(folder / f"{name}.yaml") if name else ""


def _backbone_of(dataset_file: str | Path) -> str:
    """The backbone that a data set's file names, empty where it names none."""
    if not dataset_file:
        return ""
    cfg = get_cfg_default()
    cfg.MODEL.BACKBONE.NAME = ""
    merge_file(cfg, dataset_file, only=("MODEL",))
    return cfg.MODEL.BACKBONE.NAME


def add_nodes(cfg: CN) -> None:
    """Add the nodes under TRAINER, with the original's names and defaults."""
    cfg.TRAINER.TEXT_CHUNK = 0  # tokens of class names that the text tower takes at once; 0: as many as memory allows
    cfg.TRAINER.COMPILE = False  # torch.compile: see docs/speed.md

    cfg.TRAINER.MAPLE = CN()
    cfg.TRAINER.MAPLE.N_CTX = 2  # context tokens
    cfg.TRAINER.MAPLE.CTX_INIT = "a photo of a"  # words that the context starts as; not used where N_CTX > 4
    cfg.TRAINER.MAPLE.PREC = "fp16"  # fp32, fp16, amp or bf16; fp16 and amp are fp32 on a CPU
    cfg.TRAINER.MAPLE.PROMPT_DEPTH = 9  # layers with prompts of their own, 1 to all
    cfg.TRAINER.MAPLE.SHARED_PROJECTION = False  # MaPLe-dagger: one projection for all layers

    cfg.TRAINER.COOP = CN()
    cfg.TRAINER.COOP.N_CTX = 16
    cfg.TRAINER.COOP.CSC = False  # a context of its own for each class; not with CTX_INIT
    cfg.TRAINER.COOP.CTX_INIT = ""  # words to start from; their number goes before N_CTX
    cfg.TRAINER.COOP.PREC = "fp16"
    cfg.TRAINER.COOP.CLASS_TOKEN_POSITION = "end"  # or middle, or front

    cfg.TRAINER.COCOOP = CN()
    cfg.TRAINER.COCOOP.N_CTX = 16
    cfg.TRAINER.COCOOP.CTX_INIT = ""
    cfg.TRAINER.COCOOP.PREC = "fp16"

    cfg.TRAINER.IVLP = CN()
    cfg.TRAINER.IVLP.N_CTX_VISION = 2
    cfg.TRAINER.IVLP.N_CTX_TEXT = 2
    cfg.TRAINER.IVLP.CTX_INIT = "a photo of a"
    cfg.TRAINER.IVLP.PREC = "fp16"
    cfg.TRAINER.IVLP.PROMPT_DEPTH_VISION = 9  # 0: none in the image tower
    cfg.TRAINER.IVLP.PROMPT_DEPTH_TEXT = 9

    cfg.TRAINER.LANGUAGEPROMPTING = CN()  # IVLP without the image tower's prompts
    cfg.TRAINER.LANGUAGEPROMPTING.N_CTX_TEXT = 4
    cfg.TRAINER.LANGUAGEPROMPTING.CTX_INIT = "a photo of a"
    cfg.TRAINER.LANGUAGEPROMPTING.PREC = "fp16"
    cfg.TRAINER.LANGUAGEPROMPTING.PROMPT_DEPTH_TEXT = 12

    cfg.TRAINER.VPT = CN()
    cfg.TRAINER.VPT.N_CTX_VISION = 2
    cfg.TRAINER.VPT.CTX_INIT = "a photo of a"  # the fixed words before every class name
    cfg.TRAINER.VPT.PREC = "fp16"
    cfg.TRAINER.VPT.PROMPT_DEPTH_VISION = 1

    for name in ("SOFTCPT", "MTCOOP"):  # the same method by two names
        cfg.TRAINER[name] = _softcpt()

    cfg.TRAINER.MTCOOPH = CN()
    cfg.TRAINER.MTCOOPH.N_CTX = 16
    cfg.TRAINER.MTCOOPH.CSC = False  # a context a class
    cfg.TRAINER.MTCOOPH.TSC = False  # a context a task
    cfg.TRAINER.MTCOOPH.CTX_INIT = ""
    cfg.TRAINER.MTCOOPH.TOKEN_POSITION = "end"
    cfg.TRAINER.MTCOOPH.PREC = "fp16"

    cfg.TRAINER.LINEARPROBE = CN()
    cfg.TRAINER.LINEARPROBE.NUM_STEP = 8  # halvings in the search for the penalty
    cfg.TRAINER.LINEARPROBE.PREC = "fp16"

    cfg.TRAINER.ZEROSHOTCLIP = CN()
    cfg.TRAINER.ZEROSHOTCLIP.PREC = "fp16"

    cfg.TRAINER.ZEROSHOTCLIP2 = CN()
    cfg.TRAINER.ZEROSHOTCLIP2.PREC = "fp16"


def _softcpt() -> CN:
    node = CN()
    node.N_CTX = 16  # generated context
    node.CTX_INIT = ""
    node.TOKEN_POSITION = "end"
    node.CSC = False  # a context of its own for each class: the C variants
    node.CLASS_N_CTX = 4  # learned context of the class prompts; 0: none
    node.CLASS_CTX_INIT = ""
    node.CLASS_CSC = False  # CS variants: one a class
    node.CLASS_TOKEN_POSITION = "end"
    node.TASK_N_CTX = 4  # learned context of the task prompts
    node.TASK_CTX_INIT = ""
    node.TASK_CSC = False  # TS variants: one a task
    node.TASK_TOKEN_POSITION = "end"
    node.PG_TYPE = "lin"  # lin, linmean or lincls
    node.PG_RATIO = 1  # not used; published configs set it
    node.CLS_SAMPLE_RATE = 0.0  # C variants: share of the other classes that a training step encodes; 0: all
    node.FREEZE_CLS_PROMPT = False
    node.LEGACY_STEPS = False  # step once for each registered module, as the published code did
    node.PREC = "fp16"
    return node
