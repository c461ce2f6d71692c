"""Plant-6: six data sets of plants, SoftCPT's second benchmark (arXiv 2208.13474)."""

import random

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import listdir_nohidden
from datasets.base import FewShotDataset, Splits


class ClassFolders(FewShotDataset):
    """Base class of data sets that have class folders but no official split.

    If `split_dk_<Name>.json` exists, it defines the split. Otherwise, every class is split at random into 50 %
    train, 20 % val and 30 % test images.
    """

    by_hand = "register on Kaggle and download the data set there"

    def read_annotations(self, rng: random.Random) -> Splits:
        return self.read_and_split_data(self.image_dir, new_cnames=self.names(), rng=rng)

    def names(self) -> dict[str, str]:
        """Return {folder: class name} for classes whose name isn't the folder name."""
        return {}


@DATASET_REGISTRY.register()
class FruitVegetable(ClassFolders):
    dataset_dir = "fruit_vegetable"
    image_dir = "images"
    split_file = "split_dk_FruitVegetable.json"


@DATASET_REGISTRY.register()
class KaggleFlower(ClassFolders):
    dataset_dir = "kaggle_flower_recognition"
    image_dir = "flowers"
    split_file = "split_dk_KaggleFlower.json"


@DATASET_REGISTRY.register()
class KaggleMushroom(ClassFolders):
    dataset_dir = "kaggle_mushroom"
    image_dir = "Mushrooms"
    split_file = "split_dk_KaggleMushroom.json"


@DATASET_REGISTRY.register()
class KaggleVegetable(ClassFolders):
    dataset_dir = "kaggle_vegetable"
    image_dir = "images"
    split_file = "split_dk_KaggleVegetable.json"


@DATASET_REGISTRY.register()
class PlantSeedlingV1(ClassFolders):
    dataset_dir = "PlantSeedlingV1"
    image_dir = "Nonsegmented"
    split_file = "split_dk_PlantSeedlingV1.json"


@DATASET_REGISTRY.register()
class PlantVillage(ClassFolders):
    """Class folders are named <plant>___<condition>. In class names, underscores become spaces.

    For example, the folder Apple___Apple_scab holds the class "Apple Apple scab".
    """

    dataset_dir = "PlantVillage"
    image_dir = "Plant_leave_diseases_dataset_without_augmentation"
    split_file = "split_dk_PlantVillage.json"

    def names(self) -> dict[str, str]:
        return {folder: " ".join(folder.replace("_", " ").split()) for folder in listdir_nohidden(self.image_dir)}
