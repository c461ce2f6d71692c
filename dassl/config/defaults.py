"""The default config tree. Names and defaults are Dassl's where Dassl has the key."""

from yacs.config import CfgNode as CN

_C = CN()
_C.VERSION = 1
_C.PROTOCOL = ""  # base2new, few_shot or cross_dataset; the experiments set it
_C.OUTPUT_DIR = "./output"
_C.RESUME = ""  # folder to resume from; empty: OUTPUT_DIR
_C.SEED = -1  # the one source of randomness; negative: not seeded
_C.USE_CUDA = True
_C.DETERMINISTIC = False  # on a GPU too, repeat to the bit, at some cost; a CPU always does
_C.VERBOSE = True

_C.INPUT = CN()
_C.INPUT.SIZE = (224, 224)
_C.INPUT.INTERPOLATION = "bilinear"
_C.INPUT.TRANSFORMS = ()
_C.INPUT.NO_TRANSFORM = False
_C.INPUT.PIXEL_MEAN = [0.485, 0.456, 0.406]
_C.INPUT.PIXEL_STD = [0.229, 0.224, 0.225]
_C.INPUT.CROP_PADDING = 4
_C.INPUT.RRCROP_SCALE = (0.08, 1.0)
_C.INPUT.CUTOUT_N = 1
_C.INPUT.CUTOUT_LEN = 16
_C.INPUT.GN_MEAN = 0.0
_C.INPUT.GN_STD = 0.15
_C.INPUT.RANDAUGMENT_N = 2
_C.INPUT.RANDAUGMENT_M = 10
_C.INPUT.COLORJITTER_B = 0.4
_C.INPUT.COLORJITTER_C = 0.4
_C.INPUT.COLORJITTER_S = 0.4
_C.INPUT.COLORJITTER_H = 0.1
_C.INPUT.RGS_P = 0.2
_C.INPUT.GB_P = 0.5
_C.INPUT.GB_K = 21

_C.DATASET = CN()
_C.DATASET.ROOT = ""
_C.DATASET.NAME = ""
_C.DATASET.CONFIG = ""  # name of the data set's config file; train.py writes it here
_C.DATASET.PATH = ""  # somebody's own data: a folder of class folders, or a CSV or JSON list
_C.DATASET.TASKS = []  # several data sets at once: [[data set, task name, DATASET.PATH if its own], ...]
_C.DATASET.SUBSAMPLE_TASKS = "all"  # all, base, new, or a task's number
_C.DATASET.TEMPLATE = ""  # zero-shot template with {} for the class name; empty: the data set's own
_C.DATASET.SOURCE_DOMAINS = ()
_C.DATASET.TARGET_DOMAINS = ()
_C.DATASET.NUM_SHOTS = -1
_C.DATASET.FEWSHOT_FILE = ""  # picks to use instead of drawing: a run's fewshot.json or an original cache (.pkl)
_C.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base (first half of the classes, rounded up) or new (the rest)

_C.DATALOADER = CN()
_C.DATALOADER.NUM_WORKERS = 4
_C.DATALOADER.DECODED_GB = 2.0  # decoded training images kept in memory, up to so much (and 1/4 of what is free)
_C.DATALOADER.K_TRANSFORMS = 1  # independent augmentations of an image in training
_C.DATALOADER.RETURN_IMG0 = False  # also hand out the image without augmentation
_C.DATALOADER.TRAIN_X = CN()
_C.DATALOADER.TRAIN_X.SAMPLER = "RandomSampler"
_C.DATALOADER.TRAIN_X.BATCH_SIZE = 32
_C.DATALOADER.TRAIN_X.N_DOMAIN = 0
_C.DATALOADER.TRAIN_X.N_INS = 16
_C.DATALOADER.TRAIN_U = _C.DATALOADER.TRAIN_X.clone()
_C.DATALOADER.TRAIN_U.SAME_AS_X = True
_C.DATALOADER.TEST = CN()
_C.DATALOADER.TEST.SAMPLER = "SequentialSampler"
_C.DATALOADER.TEST.BATCH_SIZE = 32

_C.MODEL = CN()
_C.MODEL.INIT_WEIGHTS = ""
_C.MODEL.BACKBONE = CN()
_C.MODEL.BACKBONE.NAME = ""
_C.MODEL.BACKBONE.PATH = ""  # weights on this machine: a file, or a Hugging Face model's folder
_C.MODEL.BACKBONE.PRETRAINED = True
_C.MODEL.HEAD = CN()
_C.MODEL.HEAD.NAME = ""
_C.MODEL.HEAD.HIDDEN_LAYERS = ()
_C.MODEL.HEAD.ACTIVATION = "relu"
_C.MODEL.HEAD.BN = True
_C.MODEL.HEAD.DROPOUT = 0.0

_C.OPTIM = CN()
_C.OPTIM.NAME = "adam"
_C.OPTIM.LR = 0.0003
_C.OPTIM.WEIGHT_DECAY = 5e-4
_C.OPTIM.MOMENTUM = 0.9
_C.OPTIM.SGD_DAMPNING = 0
_C.OPTIM.SGD_NESTEROV = False
_C.OPTIM.RMSPROP_ALPHA = 0.99
_C.OPTIM.ADAM_BETA1 = 0.9
_C.OPTIM.ADAM_BETA2 = 0.999
_C.OPTIM.ADAM_EPS = 1e-8
_C.OPTIM.STAGED_LR = False  # other layers than NEW_LAYERS learn at LR * BASE_LR_MULT
_C.OPTIM.NEW_LAYERS = ()
_C.OPTIM.BASE_LR_MULT = 0.1
_C.OPTIM.LR_SCHEDULER = "single_step"
_C.OPTIM.STEPSIZE = (-1,)
_C.OPTIM.GAMMA = 0.1
_C.OPTIM.MAX_EPOCH = 10
_C.OPTIM.WARMUP_EPOCH = -1
_C.OPTIM.WARMUP_TYPE = "linear"
_C.OPTIM.WARMUP_CONS_LR = 1e-5
_C.OPTIM.WARMUP_MIN_LR = 1e-5
_C.OPTIM.WARMUP_RECOUNT = True  # the schedule proper starts at its own epoch 0 after the warm-up

_C.TRAIN = CN()
_C.TRAIN.CHECKPOINT_FREQ = 0  # epochs between checkpoints that are kept; 0: the last one alone
_C.TRAIN.PRINT_FREQ = 10
_C.TRAIN.COUNT_ITER = "train_x"  # TrainerXU: an epoch is as long as train_x, train_u, or the smaller_one

_C.TEST = CN()
_C.TEST.EVALUATOR = "Classification"
_C.TEST.PER_CLASS_RESULT = False
_C.TEST.PER_TASK_RESULT = False
_C.TEST.COMPUTE_CMAT = False
_C.TEST.SAVE_PREDICTIONS = False  # predictions.npz: impath, label, logits
_C.TEST.CACHE_FEATURES = True  # keep image features on disk, for methods without prompts in the image tower
_C.TEST.CACHE_IMAGES = False  # keep resized test images on disk, 150 kB each at 224 x 224
_C.TEST.NO_TEST = False
_C.TEST.SPLIT = "test"
_C.TEST.FINAL_MODEL = "last_step"  # or best_val
_C.TEST.MODEL_DIR = ""  # folder whose prompts are tested (--model-dir)
_C.TEST.LOAD_EPOCH = -1  # their epoch (--load-epoch); negative: what FINAL_MODEL says
_C.TEST.EVAL_ONLY = False  # test without training (--eval-only)

_C.TRAINER = CN()
_C.TRAINER.NAME = ""
_C.TRAINER.CONFIG = ""  # name of the trainer's config file; train.py writes it here


def get_cfg_default() -> CN:
    """A fresh copy of the default config."""
    return _C.clone()
