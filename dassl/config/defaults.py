"""The default config tree: every key with its default. `get_cfg_default` returns a copy of it.

Keys that Dassl.pytorch also has keep Dassl's names and defaults, so that published YAML files load unchanged. Keys of
single trainers, under TRAINER, are declared with the trainers.
"""

from yacs.config import CfgNode as CN

_C = CN()
_C.VERSION = 1
_C.PROTOCOL = ""  # base2new, few_shot or cross_dataset; the experiments set it
_C.OUTPUT_DIR = "./output"
_C.RESUME = ""  # folder to resume from; empty: OUTPUT_DIR
_C.SEED = -1  # seed of all random draws; negative: not seeded
_C.USE_CUDA = True
_C.DETERMINISTIC = False  # use deterministic algorithms on a GPU too, which is slower; a CPU always does
_C.VERBOSE = True

_C.INPUT = CN()
_C.INPUT.SIZE = (224, 224)  # height, width in pixels
_C.INPUT.INTERPOLATION = "bilinear"
_C.INPUT.TRANSFORMS = ()  # names of training transforms; dassl/data/transforms lists them
_C.INPUT.NO_TRANSFORM = False  # return images without any transform
_C.INPUT.PIXEL_MEAN = [0.485, 0.456, 0.406]
_C.INPUT.PIXEL_STD = [0.229, 0.224, 0.225]
_C.INPUT.CROP_PADDING = 4  # random_crop: pixels
_C.INPUT.RRCROP_SCALE = (0.08, 1.0)  # random_resized_crop: range of the area's share
_C.INPUT.CUTOUT_N = 1  # cutout: number of squares
_C.INPUT.CUTOUT_LEN = 16  # cutout: side of a square in pixels
_C.INPUT.GN_MEAN = 0.0  # gaussian_noise
_C.INPUT.GN_STD = 0.15
_C.INPUT.RANDAUGMENT_N = 2  # randaugment: operations on an image
_C.INPUT.RANDAUGMENT_M = 10  # randaugment: magnitude
_C.INPUT.COLORJITTER_B = 0.4  # colorjitter: brightness, contrast, saturation, hue
_C.INPUT.COLORJITTER_C = 0.4
_C.INPUT.COLORJITTER_S = 0.4
_C.INPUT.COLORJITTER_H = 0.1
_C.INPUT.RGS_P = 0.2  # randomgrayscale: probability
_C.INPUT.GB_P = 0.5  # gaussian_blur: probability
_C.INPUT.GB_K = 21  # gaussian_blur: kernel size in pixels

_C.DATASET = CN()
_C.DATASET.ROOT = ""  # folder that holds all data sets
_C.DATASET.NAME = ""  # class of the data set
_C.DATASET.CONFIG = ""  # name of the data set's config file; train.py writes it here
_C.DATASET.PATH = ""  # a user's own data: a folder of class folders, or a CSV or JSON list
_C.DATASET.TASKS = []  # MultiTask: [[data set, task name], ...], or [data set, task name, DATASET.PATH]
_C.DATASET.SUBSAMPLE_TASKS = "all"  # MultiTask: all, base, new, or the number of one task
_C.DATASET.TEMPLATE = ""  # zero-shot prompt with {} for the class name; empty: the data set's default
_C.DATASET.SOURCE_DOMAINS = ()  # domain adaptation and generalisation
_C.DATASET.TARGET_DOMAINS = ()
_C.DATASET.NUM_SHOTS = -1  # training images per class; less than 1: all
_C.DATASET.FEWSHOT_FILE = ""  # few-shot picks to read: a run's fewshot.json or an original cache (.pkl)
_C.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base (first half, rounded up) or new (second half)

_C.DATALOADER = CN()
_C.DATALOADER.NUM_WORKERS = 4
_C.DATALOADER.DECODED_GB = 2.0  # memory limit for decoded training images; at most 1/4 of free memory is used
_C.DATALOADER.K_TRANSFORMS = 1  # independent augmentations of an image in training
_C.DATALOADER.RETURN_IMG0 = False  # also return the image without augmentation, as img0
_C.DATALOADER.TRAIN_X = CN()
_C.DATALOADER.TRAIN_X.SAMPLER = "RandomSampler"
_C.DATALOADER.TRAIN_X.BATCH_SIZE = 32
_C.DATALOADER.TRAIN_X.N_DOMAIN = 0  # RandomDomainSampler: domains in a batch
_C.DATALOADER.TRAIN_X.N_INS = 16  # RandomClassSampler: images per class in a batch
_C.DATALOADER.TRAIN_U = _C.DATALOADER.TRAIN_X.clone()
_C.DATALOADER.TRAIN_U.SAME_AS_X = True  # use the settings of TRAIN_X for unlabelled images
_C.DATALOADER.TEST = CN()
_C.DATALOADER.TEST.SAMPLER = "SequentialSampler"
_C.DATALOADER.TEST.BATCH_SIZE = 32

_C.MODEL = CN()
_C.MODEL.INIT_WEIGHTS = ""  # checkpoint to start from
_C.MODEL.BACKBONE = CN()
_C.MODEL.BACKBONE.NAME = ""  # name of the CLIP, such as ViT-B/16
_C.MODEL.BACKBONE.PATH = ""  # local weights: a file, or a Hugging Face model's folder; empty: download by name
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
_C.OPTIM.STAGED_LR = False  # layers other than NEW_LAYERS learn at LR * BASE_LR_MULT
_C.OPTIM.NEW_LAYERS = ()
_C.OPTIM.BASE_LR_MULT = 0.1
_C.OPTIM.LR_SCHEDULER = "single_step"  # or multi_step, cosine
_C.OPTIM.STEPSIZE = (-1,)  # epochs of the steps; negative: MAX_EPOCH
_C.OPTIM.GAMMA = 0.1  # factor of a step
_C.OPTIM.MAX_EPOCH = 10
_C.OPTIM.WARMUP_EPOCH = -1  # warm-up epochs; 0 or less: none
_C.OPTIM.WARMUP_TYPE = "linear"  # or constant
_C.OPTIM.WARMUP_CONS_LR = 1e-5  # constant: learning rate of the warm-up
_C.OPTIM.WARMUP_MIN_LR = 1e-5  # linear: learning rate of the first epoch
_C.OPTIM.WARMUP_RECOUNT = True  # the schedule after the warm-up starts at its epoch 0

_C.TRAIN = CN()
_C.TRAIN.CHECKPOINT_FREQ = 0  # save a checkpoint every so many epochs; 0: only the last
_C.TRAIN.PRINT_FREQ = 10  # batches between log lines
_C.TRAIN.COUNT_ITER = "train_x"  # TrainerXU: loader that sets the length of an epoch: train_x, train_u or smaller_one

_C.TEST = CN()
_C.TEST.EVALUATOR = "Classification"
_C.TEST.PER_CLASS_RESULT = False
_C.TEST.PER_TASK_RESULT = False
_C.TEST.COMPUTE_CMAT = False  # save the confusion matrix
_C.TEST.SAVE_PREDICTIONS = False  # write predictions.npz with impath, label and logits
_C.TEST.CACHE_FEATURES = True  # cache image features on disk if the image tower has no prompts
_C.TEST.CACHE_IMAGES = False  # cache resized test images on disk, 150 kB each at 224 x 224
_C.TEST.NO_TEST = False  # skip the test after training
_C.TEST.SPLIT = "test"  # or val
_C.TEST.FINAL_MODEL = "last_step"  # or best_val
_C.TEST.MODEL_DIR = ""  # run folder that holds the prompts to test (--model-dir)
_C.TEST.LOAD_EPOCH = -1  # epoch of these prompts (--load-epoch); negative: the one that FINAL_MODEL names
_C.TEST.EVAL_ONLY = False  # test without training (--eval-only)

_C.TRAINER = CN()
_C.TRAINER.NAME = ""
_C.TRAINER.CONFIG = ""  # name of the trainer's config file; train.py writes it here


def get_cfg_default() -> CN:
    """Return a new copy of the default config. Change the copy, then freeze it."""
    return _C.clone()
