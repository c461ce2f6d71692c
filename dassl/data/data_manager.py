"""From a data set to batches."""

import contextlib
import hashlib
import multiprocessing
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from dassl.data.cache import DecodedImages, can_keep, resized
from dassl.data.datasets import build_dataset
from dassl.data.samplers import build_sampler
from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from dassl.utils.errors import InputError
from dassl.utils.tools import cpu_cores, free_memory, read_image


class DatasetWrapper(Dataset):
    """Images of a list of `Datum`, transformed.

    An item is a dict: `img`, `label`, `domain`, `impath`, `index`; `img2`, `img3` ... where `transform` is a list;
    `img0` (resized only) with DATALOADER.RETURN_IMG0. With DATALOADER.K_TRANSFORMS k > 1, in training, `img` is a
    list of k versions. In training the augmentation depends on SEED, `epoch` and the item alone, so neither the
    number of workers nor a resume changes it.
    """

    def __init__(self, cfg: Any, data_source: list, transform: Any = None, is_train: bool = False):
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform  # looked up at every item: may be replaced at run time
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        self.epoch = 0
        self.decoded = _decoded_images(cfg, data_source) if is_train else None
        if self.k_tfm > 1 and transform is None:
            raise ValueError(f"can't make {self.k_tfm} versions of an image (K_TRANSFORMS) without a transform")
        plain: list = [T.Resize(tuple(cfg.INPUT.SIZE), INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]), T.ToTensor()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            plain.append(T.Normalize(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD))
        self.to_tensor = T.Compose(plain)

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.data_source[index]
        output = {"label": item.label, "domain": item.domain, "impath": item.impath, "index": index}
        if self._is_kept():
            return output | {"img": resized(item.impath, self.transform)}
        image = self.decoded.read(index, item.impath) if self.decoded else read_image(item.impath)
        if self.transform is None:
            return output | {"img": image}
        seeded = self.is_train and self.cfg.SEED >= 0
        with _seeded(self.cfg.SEED, self.epoch, index) if seeded else contextlib.nullcontext():
            several = self.transform if isinstance(self.transform, (list, tuple)) else [self.transform]
            for number, transform in enumerate(several, 1):
                output["img" if number == 1 else f"img{number}"] = self._versions(transform, image)
        if self.return_img0:
            output["img0"] = self.to_tensor(image)
        return output

    def _is_kept(self) -> bool:
        """Whether this is a test image whose resized pixels are kept on disk."""
        keeps = self.cfg.TEST.CACHE_IMAGES and not self.is_train and not self.return_img0
        return keeps and can_keep(self.transform)

    def _versions(self, transform: Callable, image: Any) -> Any:
        versions = [transform(image) for _ in range(self.k_tfm)]
        return versions[0] if self.k_tfm == 1 else versions


def _decoded_images(cfg: Any, items: list) -> DecodedImages | None:
    """Room for a training set's decoded images; None where they are read once or not kept, or by workers that don't
    share memory with this process."""
    apart = cfg.DATALOADER.NUM_WORKERS > 0 and multiprocessing.get_start_method() != "fork"
    budget = int(min(cfg.DATALOADER.DECODED_GB * 2**30, free_memory() / 4))
    if apart or not budget or cfg.OPTIM.MAX_EPOCH < 2:
        return None
    return DecodedImages([item.impath for item in items], budget)


def mix_seed(*parts: int | str) -> int:
    """A seed in [0, 2**32) out of several numbers or names; near ones give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


@contextlib.contextmanager
def _seeded(*parts: int) -> Iterator[None]:
    """Python's, NumPy's and torch's generators seeded from `parts` inside, as they were outside."""
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
    cfg: Any,
    sampler_type: str = "SequentialSampler",
    data_source: list | None = None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm: Any = None,
    is_train: bool = True,
    dataset_wrapper: Callable | None = None,
) -> DataLoader:
    """A loader over `data_source`. In training a last batch that is too small is left out.

    Raises:
        InputError: no items.
    """
    source = data_source or []
    if not source:
        raise InputError(f"{cfg.DATASET.NAME} has no images for {'training' if is_train else 'testing'}")
    return DataLoader(
        (dataset_wrapper or DatasetWrapper)(cfg, source, transform=tfm, is_train=is_train),
        batch_size=batch_size,
        sampler=build_sampler(sampler_type, cfg, source, batch_size, n_domain, n_ins),
        num_workers=min(cfg.DATALOADER.NUM_WORKERS, cpu_cores()),  # no result depends on it
        drop_last=is_train and len(source) >= batch_size,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
    )


class DataManager:
    """The data set that the config names and its loaders: `train_loader_x`, `train_loader_u`, `val_loader`,
    `test_loader` (None where there is nothing to load)."""

    def __init__(
        self,
        cfg: Any,
        custom_tfm_train: Any = None,
        custom_tfm_test: Any = None,
        dataset_wrapper: Callable | None = None,
    ):
        self.dataset = dataset = build_dataset(cfg)
        tfm_train = custom_tfm_train or build_transform(cfg, is_train=True)
        tfm_test = custom_tfm_test or build_transform(cfg, is_train=False)

        def loader(source: list | None, opts: Any, is_train: bool) -> DataLoader | None:
            if not source:
                return None
            groups = {"n_domain": opts.N_DOMAIN, "n_ins": opts.N_INS} if is_train else {}
            tfm = tfm_train if is_train else tfm_test
            return build_data_loader(
                cfg, opts.SAMPLER, source, opts.BATCH_SIZE, tfm=tfm, is_train=is_train,
                dataset_wrapper=dataset_wrapper, **groups,
            )  # fmt: skip

        opts = cfg.DATALOADER
        self.train_loader_x: Any = loader(dataset.train_x, opts.TRAIN_X, True)
        self.train_loader_u: Any = loader(
            dataset.train_u, opts.TRAIN_X if opts.TRAIN_U.SAME_AS_X else opts.TRAIN_U, True
        )
        self.val_loader: Any = loader(dataset.val, opts.TEST, False)
        self.test_loader: Any = loader(dataset.test, opts.TEST, False)
        self.num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    @property
    def num_classes(self) -> int:
        return self.dataset.num_classes

    @property
    def lab2cname(self) -> dict[int, str]:
        return self.dataset.lab2cname

    def show_dataset_summary(self, cfg: Any) -> None:
        """Print the sizes."""
        rows: list[tuple[str, Any]] = [("Dataset", cfg.DATASET.NAME), ("# classes", f"{self.num_classes:,}")]
        for name in ("train_x", "train_u", "val", "test"):
            if getattr(self.dataset, name):
                rows.append((f"# {name}", f"{len(getattr(self.dataset, name)):,}"))
        print("\n".join(["-" * 24, *(f"{name:<10} {value}" for name, value in rows), "-" * 24]))
