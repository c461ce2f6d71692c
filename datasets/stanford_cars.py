"""StanfordCars: 196 makes, models and years (Krause et al., 2013)."""

import os
import random

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Download, FewShotDataset, Listed, Splits, gdrive


@DATASET_REGISTRY.register()
class StanfordCars(FewShotDataset):
    """Class names start with the year: the official "Audi TTS Coupe 2012" becomes "2012 Audi TTS Coupe"."""

    dataset_dir = "stanford_cars"
    split_file = "split_zhou_StanfordCars.json"
    needs = ("cars_train", "cars_test")
    downloads = (Download(gdrive("1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT"), split_file, entries=(6509, 1635, 8041)),)
    by_hand = (
        "the official site (ai.stanford.edu/~jkrause/cars) no longer serves the images: download "
        "cars_train.tgz, cars_test.tgz, car_devkit.tgz and cars_test_annos_withlabels.mat from a mirror "
        "and unpack them in stanford_cars/; to get the split file, run bash scripts/download.sh StanfordCars"
    )

    def read_annotations(self, rng: random.Random) -> Splits:
        train, val = self.split_trainval(self._read("devkit/cars_train_annos.mat", "cars_train"), rng=rng)
        return train, val, self._read("cars_test_annos_withlabels.mat", "cars_test")

    def _read(self, annotations: str, folder: str) -> list[Listed]:
        """Return the images of a MATLAB annotation file, in which labels start at 1. `folder` holds the images."""
        from scipy.io import loadmat

        meta = loadmat(os.path.join(self.dataset_dir, "devkit", "cars_meta.mat"))["class_names"][0]
        items = []
        for entry in loadmat(os.path.join(self.dataset_dir, annotations))["annotations"][0]:
            label = int(entry["class"][0, 0]) - 1
            *words, year = meta[label][0].split(" ")
            path = os.path.join(self.dataset_dir, folder, entry["fname"][0])
            items.append(Listed(path, label, " ".join([year, *words])))
        return items
