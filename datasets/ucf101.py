"""UCF101: 101 human actions. Each image is the middle frame of a video (Soomro et al., 2012)."""

import os
import random
import re

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Download, FewShotDataset, Listed, Splits, gdrive


@DATASET_REGISTRY.register()
class UCF101(FewShotDataset):
    """Class names and image folders have underscores between words: ApplyEyeMakeup becomes Apply_Eye_Makeup."""

    dataset_dir = "ucf101"
    image_dir = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"
    template = "a photo of a person doing {}."
    downloads = (
        Download(gdrive("10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O"), filename="UCF-101-midframes.zip"),
        Download(gdrive("1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y"), split_file, entries=(7639, 1898, 3783)),
    )

    def read_annotations(self, rng: random.Random) -> Splits:
        with open(os.path.join(self.dataset_dir, "ucfTrainTestlist", "classInd.txt"), encoding="utf-8") as file:
            labels = {action: int(number) - 1 for number, action in (line.split() for line in file)}
        train, val = self.split_trainval(self._read("trainlist01.txt", labels), rng=rng)
        return train, val, self._read("testlist01.txt", labels)

    def _read(self, name: str, labels: dict[str, int]) -> list[Listed]:
        """Return the images of a list file. Each line looks like "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1".

        The lines of the test list have no number at the end.
        """
        items = []
        with open(os.path.join(self.dataset_dir, "ucfTrainTestlist", name), encoding="utf-8") as file:
            for line in file:
                action, video = line.split()[0].split("/")
                classname = "_".join(re.findall("[A-Z][^A-Z]*", action))
                frame = os.path.join(self.image_dir, classname, video.replace(".avi", ".jpg"))
                items.append(Listed(frame, labels[action], classname))
        return items
