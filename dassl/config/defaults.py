"""The default config: all config keys and their default values. `get_cfg_default` returns a copy of this config.

If a key also exists in Dassl.pytorch, its name and its default are the same there, so published YAML files load
unchanged. The keys of a trainer aren't in this file: the trainer's module declares them, in a node of TRAINER.
"""

from yacs.config import CfgNode as CN

_C = CN()
_C.VERSION = 1
_C.PROTOCOL = ""  # protocol of the run (base2new, few_shot or cross_dataset); `experiments/` sets this key
_C.OUTPUT_DIR = "./output"
_C.RESUME = ""  # folder of the run to resume; "" means OUTPUT_DIR
_C.SEED = -1  # seed of all random generators; if negative, the generators aren't seeded
_C.USE_CUDA = True  # True: use a CUDA GPU, otherwise the GPU of a Mac (MPS), otherwise the CPU; False: use the CPU
_C.DETERMINISTIC = False  # on a GPU, use deterministic algorithms, which are slower; a CPU always uses them
_C.VERBOSE = True

_C.INPUT = CN()
_C.INPUT.SIZE = (224, 224)  # height, width in pixels
_C.INPUT.INTERPOLATION = "bilinear"
_C.INPUT.TRANSFORMS = ()  # names of transforms; dassl/data/transforms/transforms.py lists all names
_C.INPUT.NO_TRANSFORM = False  # return images without any transform
_C.INPUT.PIXEL_MEAN = [0.485, 0.456, 0.406]
_C.INPUT.PIXEL_STD = [0.229, 0.224, 0.225]
_C.INPUT.CROP_PADDING = 4  # random_crop: padding on each side, in pixels
_C.INPUT.RRCROP_SCALE = (0.08, 1.0)  # random_resized_crop: range of the crop's area, as a fraction of the image's area
_C.INPUT.CUTOUT_N = 1  # cutout: number of squares
_C.INPUT.CUTOUT_LEN = 16  # cutout: side of a square in pixels
_C.INPUT.GN_MEAN = 0.0  # gaussian_noise: mean of the noise
_C.INPUT.GN_STD = 0.15  # gaussian_noise: standard deviation of the noise
_C.INPUT.RANDAUGMENT_N = 2  # randaugment: number of operations per image
_C.INPUT.RANDAUGMENT_M = 10  # randaugment: magnitude of the operations
_C.INPUT.COLORJITTER_B = 0.4  # colorjitter: strength of the change in brightness
_C.INPUT.COLORJITTER_C = 0.4  # colorjitter: strength of the change in contrast
_C.INPUT.COLORJITTER_S = 0.4  # colorjitter: strength of the change in saturation
_C.INPUT.COLORJITTER_H = 0.1  # colorjitter: strength of the change in hue
_C.INPUT.RGS_P = 0.2  # randomgrayscale: probability that an image becomes grey
_C.INPUT.GB_P = 0.5  # gaussian_blur: probability that an image is blurred
_C.INPUT.GB_K = 21  # gaussian_blur: kernel size in pixels

_C.DATASET = CN()
_C.DATASET.ROOT = ""  # folder that contains the folders of all data sets
_C.DATASET.NAME = ""  # name of the data set's class
_C.DATASET.CONFIG = ""  # name of the data set's config file; train.py sets this key
_C.DATASET.PATH = ""  # path of a user's own data: a folder with a subfolder per class, or a CSV or JSON list of images
_C.DATASET.TASKS = []  # tasks of MultiTask: a list of [data set, task name] or [data set, task name, DATASET.PATH]
_C.DATASET.SUBSAMPLE_TASKS = "all"  # tasks for MultiTask: all, base (first half), new (second half) or a task's number
_C.DATASET.TEMPLATE = ""  # zero-shot prompt with {} for the class name; "" means the data set's default
_C.DATASET.SOURCE_DOMAINS = ()  # names of the training domains, for domain adaptation and generalisation
_C.DATASET.TARGET_DOMAINS = ()  # names of the test domains
_C.DATASET.NUM_SHOTS = -1  # number of training images per class; less than 1 means all images
_C.DATASET.VAL_SHOTS_FIRST = False  # draw the few-shot validation images before the training images (CLIP-LoRA)
_C.DATASET.FEWSHOT_FILE = ""  # file that lists the few-shot images: a run's fewshot.json or the original code's .pkl
_C.DATASET.SUBSAMPLE_CLASSES = "all"  # classes to use: all, base (first half, rounded up) or new (second half)

_C.DATALOADER = CN()
_C.DATALOADER.NUM_WORKERS = 4
_C.DATALOADER.DECODED_GB = 2.0  # memory limit for decoded training images; at most 1/4 of the free memory is used
_C.DATALOADER.K_TRANSFORMS = 1  # number of augmented versions of each training image
_C.DATALOADER.KEEP_LAST = False  # train on an incomplete last batch, too
_C.DATALOADER.RETURN_IMG0 = False  # also return the image without augmentation, as `img0`
_C.DATALOADER.TRAIN_X = CN()
_C.DATALOADER.TRAIN_X.SAMPLER = "RandomSampler"
_C.DATALOADER.TRAIN_X.BATCH_SIZE = 32
_C.DATALOADER.TRAIN_X.N_DOMAIN = 0  # RandomDomainSampler: number of domains in a batch; 0 means all
_C.DATALOADER.TRAIN_X.N_INS = 16  # RandomClassSampler: number of images per class in a batch
_C.DATALOADER.TRAIN_U = _C.DATALOADER.TRAIN_X.clone()
_C.DATALOADER.TRAIN_U.SAME_AS_X = True  # use the settings of TRAIN_X for the unlabelled images
_C.DATALOADER.TEST = CN()
_C.DATALOADER.TEST.SAMPLER = "SequentialSampler"
_C.DATALOADER.TEST.BATCH_SIZE = 32

_C.MODEL = CN()
_C.MODEL.INIT_WEIGHTS = ""  # checkpoint file with the initial weights; "" if there is none
_C.MODEL.BACKBONE = CN()
_C.MODEL.BACKBONE.NAME = ""  # name of the CLIP model, such as ViT-B/16
_C.MODEL.BACKBONE.PATH = ""  # weight file, or folder of a Hugging Face model; "": download the weights of NAME
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
_C.OPTIM.STAGED_LR = False  # train the layers in NEW_LAYERS with LR, and all other layers with LR * BASE_LR_MULT
_C.OPTIM.NEW_LAYERS = ()  # names of top-level children of the model
_C.OPTIM.BASE_LR_MULT = 0.1
_C.OPTIM.LR_SCHEDULER = "single_step"  # single_step, multi_step or cosine
_C.OPTIM.STEPSIZE = (-1,)  # multi_step: epoch of each step; single_step: epochs between steps (-1 means MAX_EPOCH)
_C.OPTIM.GAMMA = 0.1  # factor by which a step multiplies the learning rate
_C.OPTIM.MAX_EPOCH = 10
_C.OPTIM.WARMUP_EPOCH = -1  # number of warm-up epochs; 0 or less means no warm-up
_C.OPTIM.WARMUP_TYPE = "linear"  # linear or constant
_C.OPTIM.WARMUP_CONS_LR = 1e-5  # learning rate of a constant warm-up
_C.OPTIM.WARMUP_MIN_LR = 1e-5  # learning rate of the first epoch of a linear warm-up
_C.OPTIM.WARMUP_RECOUNT = True  # after the warm-up, the schedule starts at its epoch 0 (True) or WARMUP_EPOCH (False)

_C.TRAIN = CN()
_C.TRAIN.CHECKPOINT_FREQ = 0  # 0: keep only the last checkpoint; N > 0: also keep the checkpoint of every N-th epoch
_C.TRAIN.PRINT_FREQ = 10  # number of batches between two log lines
_C.TRAIN.COUNT_ITER = "train_x"  # loader that sets the length of TrainerXU's epochs: train_x, train_u or smaller_one

_C.TEST = CN()
_C.TEST.EVALUATOR = "Classification"  # name of the evaluator's class
_C.TEST.PER_CLASS_RESULT = False  # also print the accuracy of each class
_C.TEST.PER_TASK_RESULT = False  # also print the score of each task (only ClassificationMT does so)
_C.TEST.COMPUTE_CMAT = False  # save the confusion matrix as cmat.pt
_C.TEST.SAVE_PREDICTIONS = False  # write image paths, labels and logits to predictions.npz
_C.TEST.CACHE_FEATURES = True  # cache image features on disk if the image tower has no prompts
_C.TEST.CACHE_IMAGES = False  # cache resized test images on disk (150 kB for an image of 224 x 224 pixels)
_C.TEST.NO_TEST = False  # skip the test after training
_C.TEST.SPLIT = "test"  # split to evaluate: test or val
_C.TEST.FINAL_MODEL = "last_step"  # model to test: last_step (last epoch) or best_val (best validation result)
_C.TEST.MODEL_DIR = ""  # folder of the run that trained the prompts to test (--model-dir)
_C.TEST.LOAD_EPOCH = -1  # epoch of the prompts to test (--load-epoch); if negative, FINAL_MODEL selects the epoch
_C.TEST.EVAL_ONLY = False  # test without training (--eval-only)

_C.TRAINER = CN()
_C.TRAINER.NAME = ""  # name of the trainer's class
_C.TRAINER.CONFIG = ""  # name of the trainer's config file; train.py sets this key


def get_cfg_default() -> CN:
    """Return a new copy of the default config. Change the copy, then freeze it."""
    return _C.clone()
