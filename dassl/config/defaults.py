"""The default config: all config keys with their types, ranges and default values. `get_cfg_default` returns a copy.

Each class describes a node. Values from files and from the command line are checked against it (`merge.py`). If a key
also exists in Dassl.pytorch, its name and its default are the same there, so published YAML files load unchanged. The
keys of a trainer aren't in this file: the trainer's module describes them, in a node of TRAINER.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta
from yacs.config import CfgNode

from dassl.config.nodes import Count, Int64, NotNegative, Positive, Share, described_node

TransformName = Literal[
    "random_flip", "random_resized_crop", "normalize", "instance_norm", "random_crop", "random_translation",
    "center_crop", "cutout", "imagenet_policy", "cifar10_policy", "svhn_policy", "randaugment", "gaussian_noise",
    "colorjitter", "randomgrayscale", "gaussian_blur",
]  # fmt: skip
InterpolationName = Literal["bilinear", "bicubic", "nearest"]
SamplerName = Literal[
    "RandomSampler", "SequentialSampler", "RandomDomainSampler", "SeqDomainSampler", "RandomClassSampler"
]
_Side = Annotated[int, Meta(ge=1, le=4096)]
_Pixels = Annotated[int, Meta(ge=0, le=1000)]
_Channels = Annotated[list[float], Meta(min_length=3, max_length=3, description="a list of 3 values (RGB)")]
_Deviations = Annotated[
    list[Annotated[float, Meta(gt=0)]],
    Meta(min_length=3, max_length=3, description="a list of 3 values (RGB) greater than 0"),
]
_Beta = Annotated[float, Meta(ge=0, lt=1)]
_Task = Annotated[list[str], Meta(min_length=1, max_length=3)]


@dataclass(frozen=True)
class InputKeys:
    SIZE: Annotated[tuple[_Side, _Side], Meta(description="(height, width) from 1 to 4096 pixels")] = (224, 224)
    INTERPOLATION: InterpolationName = "bilinear"
    TRANSFORMS: tuple[TransformName, ...] = ()  # names of transforms, in any order
    NO_TRANSFORM: bool = False  # return images without any transform
    PIXEL_MEAN: _Channels = field(default_factory=lambda: [0.485, 0.456, 0.406])
    PIXEL_STD: _Deviations = field(default_factory=lambda: [0.229, 0.224, 0.225])
    CROP_PADDING: _Pixels = 4  # random_crop: padding on each side, in pixels
    #: random_resized_crop: range of the crop's area, as a fraction of the image's area
    RRCROP_SCALE: Annotated[
        tuple[Annotated[float, Meta(gt=0, le=1)], Annotated[float, Meta(gt=0, le=1)]],
        Meta(description="(low, high), both greater than 0 and at most 1"),
    ] = (0.08, 1.0)
    CUTOUT_N: _Pixels = 1  # cutout: number of squares
    CUTOUT_LEN: Annotated[int, Meta(ge=0, le=4096)] = 16  # cutout: side of a square in pixels
    GN_MEAN: float = 0.0  # gaussian_noise: mean of the noise
    GN_STD: NotNegative = 0.15  # gaussian_noise: standard deviation of the noise
    RANDAUGMENT_N: Annotated[int, Meta(ge=0, le=100)] = 2  # randaugment: number of operations per image
    RANDAUGMENT_M: Annotated[int, Meta(ge=0, le=30)] = 10  # randaugment: magnitude of the operations
    COLORJITTER_B: NotNegative = 0.4  # colorjitter: strength of the change in brightness
    COLORJITTER_C: NotNegative = 0.4  # colorjitter: strength of the change in contrast
    COLORJITTER_S: NotNegative = 0.4  # colorjitter: strength of the change in saturation
    COLORJITTER_H: Annotated[float, Meta(ge=0, le=0.5)] = 0.1  # colorjitter: strength of the change in hue
    RGS_P: Share = 0.2  # randomgrayscale: probability that an image becomes grey
    GB_P: Share = 0.5  # gaussian_blur: probability that an image is blurred
    GB_K: Annotated[int, Meta(ge=1, le=999)] = 21  # gaussian_blur: kernel size in pixels, an odd number


@dataclass(frozen=True)
class DatasetKeys:
    ROOT: str = ""  # folder that contains the folders of all data sets
    NAME: str = ""  # name of the data set's class
    CONFIG: str = ""  # name of the data set's config file; train.py sets this key
    PATH: str = ""  # path of a user's own data: a folder with a subfolder per class, or a CSV or JSON list of images
    #: name of the data at PATH in folders and results; "": the name of the folder or list
    LABEL: Annotated[str, Meta(pattern=r"^([^./\\\x00-\x1f][^/\\\x00-\x1f]*)?$")] = ""
    #: tasks of MultiTask: a list of [data set, task name] or [data set, task name, DATASET.PATH]
    TASKS: Annotated[
        list[_Task], Meta(description="a list of [data set, task name] or [data set, task name, path]")
    ] = field(default_factory=list)
    SUBSAMPLE_TASKS: str = "all"  # tasks for MultiTask: all, base (first half), new (second half) or a task's number
    TEMPLATE: str = ""  # zero-shot prompt with {} for the class name; "" means the data set's default
    SOURCE_DOMAINS: tuple[str, ...] = ()  # names of the training domains, for domain adaptation and generalisation
    TARGET_DOMAINS: tuple[str, ...] = ()  # names of the test domains
    NUM_SHOTS: Int64 = -1  # number of training images per class; less than 1 means all images
    FEWSHOT_FILE: str = ""  # file that lists the few-shot images: a run's fewshot.json or the original code's .pkl
    VAL_SHOTS_FIRST: bool = False  # draw the few-shot validation images before the training images (CLIP-LoRA)
    #: classes to use: all, base (first half, rounded up) or new (second half)
    SUBSAMPLE_CLASSES: Literal["all", "base", "new"] = "all"


@dataclass(frozen=True)
class TrainLoaderKeys:
    SAMPLER: SamplerName = "RandomSampler"
    BATCH_SIZE: Positive = 32
    N_DOMAIN: Count = 0  # RandomDomainSampler: number of domains in a batch; 0 means all
    N_INS: Positive = 16  # RandomClassSampler: number of images per class in a batch


@dataclass(frozen=True)
class UnlabelledLoaderKeys(TrainLoaderKeys):
    SAME_AS_X: bool = True  # use the settings of TRAIN_X for the unlabelled images


@dataclass(frozen=True)
class TestLoaderKeys:
    SAMPLER: Literal["SequentialSampler", "RandomSampler"] = "SequentialSampler"  # the others don't read all images
    BATCH_SIZE: Positive = 32


@dataclass(frozen=True)
class DataloaderKeys:
    NUM_WORKERS: Count = 4
    DECODED_GB: NotNegative = 2.0  # memory limit for decoded training images; at most 1/4 of the free memory is used
    K_TRANSFORMS: Annotated[int, Meta(ge=1, le=100)] = 1  # number of augmented versions of each training image
    KEEP_LAST: bool = False  # train on an incomplete last batch, too
    RETURN_IMG0: bool = False  # also return the image without augmentation, as `img0`
    TRAIN_X: TrainLoaderKeys = TrainLoaderKeys()
    TRAIN_U: UnlabelledLoaderKeys = UnlabelledLoaderKeys()
    TEST: TestLoaderKeys = TestLoaderKeys()


@dataclass(frozen=True)
class BackboneKeys:
    NAME: str = ""  # name of the CLIP model, such as ViT-B/16
    PATH: str = ""  # weight file, or folder of a Hugging Face model; "": download the weights of NAME
    PRETRAINED: bool = True


@dataclass(frozen=True)
class HeadKeys:
    NAME: str = ""
    HIDDEN_LAYERS: tuple[Annotated[int, Meta(ge=1, le=100_000)], ...] = ()
    ACTIVATION: Literal["relu", "leaky_relu", "gelu", "tanh"] = "relu"
    BN: bool = True
    DROPOUT: Share = 0.0


@dataclass(frozen=True)
class ModelKeys:
    INIT_WEIGHTS: str = ""  # checkpoint file with the initial weights; "" if there is none
    BACKBONE: BackboneKeys = BackboneKeys()
    HEAD: HeadKeys = HeadKeys()


@dataclass(frozen=True)
class OptimKeys:
    NAME: Literal["adam", "amsgrad", "adamw", "radam", "rmsprop", "sgd"] = "adam"
    LR: NotNegative = 0.0003
    WEIGHT_DECAY: NotNegative = 5e-4
    MOMENTUM: Share = 0.9
    SGD_DAMPNING: Share = 0
    SGD_NESTEROV: bool = False
    RMSPROP_ALPHA: _Beta = 0.99
    ADAM_BETA1: _Beta = 0.9
    ADAM_BETA2: _Beta = 0.999
    ADAM_EPS: Annotated[float, Meta(gt=0)] = 1e-8
    STAGED_LR: bool = False  # train the layers in NEW_LAYERS with LR, and all other layers with LR * BASE_LR_MULT
    NEW_LAYERS: tuple[str, ...] = ()  # names of top-level children of the model
    BASE_LR_MULT: NotNegative = 0.1
    LR_SCHEDULER: Literal["single_step", "multi_step", "cosine"] = "single_step"
    #: multi_step: epoch of each step; single_step: epochs between steps (-1 means MAX_EPOCH)
    STEPSIZE: Annotated[tuple[Annotated[int, Meta(ge=-1, le=1_000_000)], ...], Meta(min_length=1)] = (-1,)
    GAMMA: NotNegative = 0.1  # factor by which a step multiplies the learning rate
    MAX_EPOCH: Count = 10
    WARMUP_EPOCH: Annotated[int, Meta(ge=-1, le=100_000)] = -1  # number of warm-up epochs; 0 or less: no warm-up
    WARMUP_TYPE: Literal["linear", "constant"] = "linear"
    WARMUP_CONS_LR: NotNegative = 1e-5  # learning rate of a constant warm-up
    WARMUP_MIN_LR: NotNegative = 1e-5  # learning rate of the first epoch of a linear warm-up
    WARMUP_RECOUNT: bool = True  # after the warm-up, the schedule starts at its epoch 0 (True) or WARMUP_EPOCH (False)


@dataclass(frozen=True)
class TrainKeys:
    CHECKPOINT_FREQ: Count = 0  # 0: keep only the last checkpoint; N > 0: also keep the checkpoint of every N-th epoch
    PRINT_FREQ: Positive = 10  # number of batches between two log lines
    #: names of loggers: tensorboard, wandb, mlflow, or loggers of plugins (docs/tools.md)
    LOGGERS: tuple[str, ...] = ("tensorboard",)
    #: validate after every N-th epoch and after the last one; 0: never, or after each epoch if FINAL_MODEL is best_val
    VAL_FREQ: Count = 0
    PATIENCE: Count = 0  # stop after this number of validations without a better result; 0: train all epochs
    #: loader that sets the length of TrainerXU's epochs
    COUNT_ITER: Literal["train_x", "train_u", "smaller_one"] = "train_x"


@dataclass(frozen=True)
class TestKeys:
    EVALUATOR: str = "Classification"  # name of the evaluator's class
    PER_CLASS_RESULT: bool = False  # also print the accuracy of each class
    PER_TASK_RESULT: bool = False  # also print the score of each task (only ClassificationMT does so)
    COMPUTE_CMAT: bool = False  # save the confusion matrix as cmat.pt
    SAVE_PREDICTIONS: bool = False  # write image paths, labels and logits to predictions.npz
    CACHE_FEATURES: bool = True  # cache image features on disk if the image tower has no prompts
    CACHE_IMAGES: bool = False  # cache resized test images on disk (150 kB for an image of 224 x 224 pixels)
    NO_TEST: bool = False  # skip the test after training
    SPLIT: Literal["test", "val"] = "test"  # split to evaluate
    #: model to test: the one of the last epoch, or the one with the best validation result
    FINAL_MODEL: Literal["last_step", "best_val"] = "last_step"
    MODEL_DIR: str = ""  # folder of the run that trained the prompts to test (--model-dir)
    LOAD_EPOCH: Int64 = -1  # epoch of the prompts to test (--load-epoch); if negative, FINAL_MODEL selects the epoch
    EVAL_ONLY: bool = False  # test without training (--eval-only)


@dataclass(frozen=True)
class TrainerKeys:
    NAME: str = ""  # name of the trainer's class
    CONFIG: str = ""  # name of the trainer's config file; train.py sets this key


@dataclass(frozen=True)
class Keys:
    """All nodes, and the keys at the top."""

    VERSION: Int64 = 1
    PROTOCOL: str = ""  # protocol of the run (base2new, few_shot or cross_dataset); `experiments/` sets this key
    OUTPUT_DIR: str = "./output"
    RESUME: str = ""  # folder of the run to resume; "" means OUTPUT_DIR
    SEED: Int64 = -1  # seed of all random generators; if negative, the generators aren't seeded
    #: True: use a CUDA GPU, otherwise the GPU of a Mac (MPS), otherwise the CPU; False: use the CPU
    USE_CUDA: bool = True
    DETERMINISTIC: bool = False  # on a GPU, use deterministic algorithms, which are slower; a CPU always uses them
    VERBOSE: bool = True
    INPUT: InputKeys = InputKeys()
    DATASET: DatasetKeys = DatasetKeys()
    DATALOADER: DataloaderKeys = DataloaderKeys()
    MODEL: ModelKeys = ModelKeys()
    OPTIM: OptimKeys = OptimKeys()
    TRAIN: TrainKeys = TrainKeys()
    TEST: TestKeys = TestKeys()
    TRAINER: TrainerKeys = TrainerKeys()


_DEFAULT = described_node(Keys)


def get_cfg_default() -> CfgNode:
    """Return a new copy of the default config. Change the copy, then freeze it."""
    return _DEFAULT.clone()
