"""Makes batches from a data set. `DatasetWrapper` reads items, and `build_data_loader` returns a loader of batches.

`DataManager` builds the data set and all its loaders. `SimpleTrainer.build_data_loader` makes a `DataManager`. Trainers
that need an additional loader call `build_data_loader`. The augmentation of a training image depends only on the seed,
the epoch and the item. Therefore, neither the number of workers nor a resume changes a result.
"""

import contextlib
import multiprocessing
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, SequentialSampler, default_collate
from torchvision import transforms as T
from yacs.config import CfgNode

from dassl import distributed
from dassl.data.cache import DecodedImageCache, is_cacheable, transform_with_cache
from dassl.data.datasets import Datum, build_dataset
from dassl.data.samplers import build_sampler
from dassl.data.seeds import mix_seed as mix_seed
from dassl.data.shares import ShareSampler
from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from dassl.utils.devices import choose_device
from dassl.utils.errors import InputError
from dassl.utils.tools import cpu_cores, free_memory, read_image

#: A function that takes a PIL image. Dassl's transforms return a tensor. A user's transform may return any object.
Transform = Callable[[Image.Image], object]


class DatasetWrapper(Dataset):
    """Reads and transforms the images of a list of `Datum`. Each item is a dict with these keys:

    * `img`: the transformed image, or the PIL image if there is no transform. In training, if k =
      DATALOADER.K_TRANSFORMS is greater than 1, `img` is a list of k augmented versions of the image.
    * `img2`, `img3` ...: the results of the second, third ... transform, if `transform` is a list.
    * `img0`: the resized image without augmentation, if DATALOADER.RETURN_IMG0 is set.
    * `label`, `domain`, `impath`, `index`.

    Args:
        cfg: the config.
        data_source: the items.
        transform: one transform or a list of transforms. The attribute `transform` may be replaced at any time.
        is_train: whether the items are used for training, and therefore augmented.

    Raises:
        ValueError: K_TRANSFORMS is greater than 1, but there is no transform.
    """

    #: True if item `i` contains the image, label and path of `data_source[i]`. Callers may then use `data_source`
    #: instead of the items. If a subclass overrides `__getitem__` or `__len__`, `__init_subclass__` sets this attribute
    #: to False, unless the subclass sets the attribute itself.
    follows_data_source = True

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if {"__getitem__", "__len__"} & vars(cls).keys() and "follows_data_source" not in vars(cls):
            cls.follows_data_source = False

    def __init__(
        self,
        cfg: CfgNode,
        data_source: Sequence[Datum],
        transform: Transform | Sequence[Transform] | None = None,
        is_train: bool = False,
    ):
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        self.epoch = 0  # the training loop updates this number, because the augmentation depends on the epoch
        self.decoded = _decoded_images(cfg, data_source) if is_train else None
        if self.k_tfm > 1 and transform is None:
            raise ValueError(f"DATALOADER.K_TRANSFORMS is {self.k_tfm}, but there is no transform to apply")
        plain: list = [T.Resize(tuple(cfg.INPUT.SIZE), INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]), T.ToTensor()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            plain.append(T.Normalize(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD))
        self.to_tensor = T.Compose(plain)

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, index: int) -> dict[str, object]:
        item = self.data_source[index]
        output: dict[str, object] = {
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": index,
        }
        caches = self.cfg.TEST.CACHE_IMAGES and not self.is_train and not self.return_img0
        if caches and is_cacheable(self.transform):
            return output | {"img": transform_with_cache(item.impath, self.transform)}
        image = self.decoded.read(index, item.impath) if self.decoded else read_image(item.impath)
        if self.transform is None:
            return output | {"img": image}
        seeded = self.is_train and self.cfg.SEED >= 0
        with _seeded(self.cfg.SEED, self.epoch, index) if seeded else contextlib.nullcontext():
            transforms = self.transform if isinstance(self.transform, Sequence) else [self.transform]
            for number, transform in enumerate(transforms, 1):
                output["img" if number == 1 else f"img{number}"] = self._apply(transform, image, item.impath)
        if self.return_img0:
            output["img0"] = self.to_tensor(image)
        return output

    def _apply(self, transform: Transform, image: Image.Image, path: str) -> object:
        """Return the transformed image, or a list of K_TRANSFORMS transformed images if K_TRANSFORMS > 1.

        Raises:
            InputError: a transform fails, for example because the image is too small.
        """
        try:
            versions = [transform(image) for _ in range(self.k_tfm)]
        except (ValueError, RuntimeError, TypeError) as error:
            size = f"{image.height} x {image.width} pixels"
            raise InputError(f"can't transform {path} ({size}) as INPUT.TRANSFORMS says: {error}") from error
        return versions[0] if self.k_tfm == 1 else versions


def _decoded_images(cfg: CfgNode, items: Sequence[Datum]) -> DecodedImageCache | None:
    """Return a cache for the decoded training images, or None if a cache can't be used or saves no time.

    A cache saves no time if there is only one epoch. A cache can't be used if DATALOADER.DECODED_GB is 0; or if the
    workers aren't forks of this process, because they then don't share the memory of this process.
    """
    separate_memory = cfg.DATALOADER.NUM_WORKERS > 0 and multiprocessing.get_start_method() != "fork"
    budget = int(min(cfg.DATALOADER.DECODED_GB * 2**30, free_memory() / 4) / distributed.local_size())
    if separate_memory or not budget or cfg.OPTIM.MAX_EPOCH < 2:
        return None
    try:
        return DecodedImageCache([item.impath for item in items], budget)
    except (OSError, MemoryError) as error:
        print(
            f"Training images are decoded in every epoch, because DATALOADER.DECODED_GB doesn't fit in memory: {error}"
        )
        return None


@contextlib.contextmanager
def _seeded(*parts: int) -> Iterator[None]:
    """A context manager that seeds the CPU generators of Python, NumPy and torch from `parts`.

    At the end of the context, the generators get their previous states back.
    """
    seed, before, numpy_before = mix_seed(*parts), random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(numpy_before)


def build_data_loader(
    cfg: CfgNode,
    sampler_type: str = "SequentialSampler",
    data_source: Sequence[Datum] | None = None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm: Transform | Sequence[Transform] | None = None,
    is_train: bool = True,
    dataset_wrapper: Callable[..., Dataset] | None = None,
) -> DataLoader:
    """Return a loader of batches from `data_source`.

    If several processes train together, the loader yields this process's share of each batch.

    Args:
        cfg: the config.
        sampler_type, n_domain, n_ins: see `build_sampler`.
        data_source: the items.
        batch_size: items per batch, of all processes together.
        tfm: one transform or a list of transforms.
        is_train: if True, augment the images. Also drop the last batch if it is incomplete, unless it is the only
            batch or DATALOADER.KEEP_LAST is True.
        dataset_wrapper: a class to use instead of `DatasetWrapper`. It is called with (cfg, data_source,
            transform=..., is_train=...).

    Raises:
        InputError: `data_source` is empty; or several processes can't share a batch equally.
    """
    source = data_source or []
    if not source:
        raise InputError(f"{cfg.DATASET.NAME} has no images for {'training' if is_train else 'testing'}")
    sampler = build_sampler(sampler_type, cfg, source, batch_size, n_domain, n_ins)
    drop_last = is_train and len(source) >= batch_size and not cfg.DATALOADER.KEEP_LAST
    if is_train and distributed.size() > 1:
        sampler = ShareSampler(sampler, batch_size, drop_last, len(source))
        batch_size = sampler.batch_size
    cores = max(1, cpu_cores() // distributed.local_size())
    return DataLoader(
        (dataset_wrapper or DatasetWrapper)(cfg, source, transform=tfm, is_train=is_train),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=min(cfg.DATALOADER.NUM_WORKERS, cores),  # any number gives equal results: see `_seeded`
        drop_last=drop_last,
        pin_memory=choose_device(cfg.USE_CUDA).type == "cuda",
    )


def reads_in_order(loader: DataLoader) -> bool:
    """Return whether `loader` reads every item of `loader.dataset.data_source` in order, with one image per item.

    If so, a trainer may compute or cache the features of `data_source` instead of iterating over the loader.
    """
    dataset = loader.dataset
    return (
        isinstance(dataset, DatasetWrapper)
        and dataset.follows_data_source
        and dataset.k_tfm == 1
        and type(loader.sampler) is SequentialSampler
        and loader.batch_size is not None  # None if the user passed a batch sampler
        and not loader.drop_last
        and loader.collate_fn is default_collate
    )


class DataManager:
    """Builds the data set that DATASET.NAME names, and its loaders.

    `train_loader_x` reads the labelled training images, and `train_loader_u` the unlabelled ones. `val_loader` and
    `test_loader` read the validation and test images. A loader is None if its split has no images.

    Args:
        cfg: the config.
        custom_tfm_train, custom_tfm_test: transforms that replace the transforms in INPUT.TRANSFORMS.
        dataset_wrapper: a class to use instead of `DatasetWrapper`; see `build_data_loader`.
    """

    def __init__(
        self,
        cfg: CfgNode,
        custom_tfm_train: Transform | Sequence[Transform] | None = None,
        custom_tfm_test: Transform | Sequence[Transform] | None = None,
        dataset_wrapper: Callable[..., Dataset] | None = None,
    ):
        self.dataset = dataset = build_dataset(cfg)
        tfm_train = custom_tfm_train or build_transform(cfg, is_train=True)
        tfm_test = custom_tfm_test or build_transform(cfg, is_train=False)

        def loader(source: list[Datum] | None, opts: CfgNode, is_train: bool) -> DataLoader | None:
            if not source:
                return None
            groups = {"n_domain": opts.N_DOMAIN, "n_ins": opts.N_INS} if is_train else {}
            tfm = tfm_train if is_train else tfm_test
            return build_data_loader(
                cfg, opts.SAMPLER, source, opts.BATCH_SIZE, tfm=tfm, is_train=is_train,
                dataset_wrapper=dataset_wrapper, **groups,
            )  # fmt: skip

        opts = cfg.DATALOADER
        self.train_loader_x = loader(dataset.train_x, opts.TRAIN_X, True)
        self.train_loader_u = loader(dataset.train_u, opts.TRAIN_X if opts.TRAIN_U.SAME_AS_X else opts.TRAIN_U, True)
        self.val_loader = loader(dataset.val, opts.TEST, False)
        self.test_loader = loader(dataset.test, opts.TEST, False)
        self.num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    @property
    def num_classes(self) -> int:
        """Number of classes of the data set."""
        return self.dataset.num_classes

    @property
    def lab2cname(self) -> dict[int, str]:
        """Mapping from label to class name."""
        return self.dataset.lab2cname

    def show_dataset_summary(self, cfg: CfgNode) -> None:
        """Print the number of classes and the number of images in each split."""
        data = self.dataset
        splits = {"train_x": data.train_x, "train_u": data.train_u, "val": data.val, "test": data.test}
        rows = [("Dataset", cfg.DATASET.NAME), ("# classes", f"{self.num_classes:,}")]
        rows += [(f"# {name}", f"{len(items):,}") for name, items in splits.items() if items]
        print("\n".join(["-" * 24, *(f"{name:<10} {value}" for name, value in rows), "-" * 24]))
