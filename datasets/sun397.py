"""SUN397: 397 scenes (Xiao et al., CVPR 2010)."""

import os
import random

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Download, FewShotDataset, Listed, Splits, gdrive

_SUN = "http://vision.princeton.edu/projects/2010/SUN"


@DATASET_REGISTRY.register()
class SUN397(FewShotDataset):
    """A class name is made from the path of the class folder: /a/apse/indoor becomes "indoor apse".

    The first letter is removed, and the order of the other parts is reversed.
    """

    dataset_dir = "sun397"
    image_dir = "SUN397"
    split_file = "split_zhou_SUN397.json"
    downloads = (
        Download(f"{_SUN}/SUN397.tar.gz", md5="8ca2778205c41d23104230ba66911c7a"),
        Download(f"{_SUN}/download/Partitions.zip"),
        Download(gdrive("1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq"), split_file, entries=(15880, 3970, 19850)),
    )

    def read_annotations(self, rng: random.Random) -> Splits:
        with open(os.path.join(self.dataset_dir, "ClassName.txt"), encoding="utf-8") as file:
            labels = {line.strip(): number for number, line in enumerate(file)}
        train, val = self.split_trainval(self._read("Training_01.txt", labels), rng=rng)
        return train, val, self._read("Testing_01.txt", labels)

    def _read(self, name: str, labels: dict[str, int]) -> list[Listed]:
        """Return the images of a list file. Each line looks like "/a/abbey/sun_xyz.jpg"."""
        items = []
        with open(os.path.join(self.dataset_dir, name), encoding="utf-8") as file:
            for line in file:
                path = line.strip().lstrip("/")
                scene = os.path.dirname(path)
                classname = " ".join(reversed(scene.split("/")[1:]))
                items.append(Listed(os.path.join(self.image_dir, path), labels["/" + scene], classname))
        return items
