"""Lays out a tiny tree of every data set as it is published: `make_<Class>(root)` returns the class names by label.

tests/test_datasets_layouts.py calls the function of every registered data set. A new data set needs one here.
"""

import json

import numpy as np
from conftest import make_image
from scipy.io import savemat

from dassl.data.datasets import DATASET_REGISTRY
from datasets.scenes import read_drawings


def images(folder, names):
    """Make one small image per name, each with other pixels."""
    for number, name in enumerate(names):
        make_image(folder / name, (number % 255, 100, 50), number)


def folders(folder, names, count=4):
    """Make class folders of `count` images. Each also has a hidden file, which data sets must skip."""
    for name in names:
        images(folder / name, [f"{number}.jpg" for number in range(count)])
        (folder / name / ".hidden.jpg").touch()


# ---- one function per data set ----


def make_Caltech101(root):
    ignored, renamed = ["Faces_easy", "BACKGROUND_Google"], ["Faces", "Leopards", "Motorbikes", "airplanes"]
    folders(root / "caltech-101/101_ObjectCategories", [*ignored, *renamed, "accordion"])
    return ["face", "leopard", "motorbike", "accordion", "airplane"]


def make_OxfordPets(root):
    folder = root / "oxford_pets"
    images(folder / "images", [f"{breed}_{i}.jpg" for breed in ("Abyssinian", "american_bulldog") for i in range(6)])
    lines = {
        "trainval.txt": [f"Abyssinian_{i} 1 1 1" for i in range(5)] + [f"american_bulldog_{i} 2 2 1" for i in range(5)],
        "test.txt": ["Abyssinian_5 1 1 1", "american_bulldog_5 2 2 1"],
    }
    (folder / "annotations").mkdir()
    for name, content in lines.items():
        (folder / "annotations" / name).write_text("\n".join(content))
    return ["abyssinian", "american_bulldog"]


def make_OxfordFlowers(root):
    folder = root / "oxford_flowers"
    images(folder / "jpg", [f"image_{number:05d}.jpg" for number in range(1, 13)])
    savemat(folder / "imagelabels.mat", {"labels": [[1] * 6 + [2] * 6]})
    (folder / "cat_to_name.json").write_text(json.dumps({"1": "pink primrose", "2": "hard-leaved pocket orchid"}))
    return ["pink primrose", "hard-leaved pocket orchid"]


def make_StanfordCars(root):
    folder = root / "stanford_cars"
    images(folder / "cars_train", [f"{number:05d}.jpg" for number in range(10)])
    images(folder / "cars_test", [f"{number:05d}.jpg" for number in range(4)])
    (folder / "devkit").mkdir()
    names = np.empty((1, 2), dtype=object)
    names[0] = ["Audi TTS Coupe 2012", "Acura Integra Type R 2001"]
    savemat(folder / "devkit/cars_meta.mat", {"class_names": names})
    columns = [("class", "O"), ("fname", "O")]
    for path, count in (("devkit/cars_train_annos.mat", 10), ("cars_test_annos_withlabels.mat", 4)):
        rows = np.array([(1 + number % 2, f"{number:05d}.jpg") for number in range(count)], dtype=columns)
        savemat(folder / path, {"annotations": rows[None]})
    return ["2012 Audi TTS Coupe", "2001 Acura Integra Type R"]


def make_Food101(root):
    folders(root / "food-101/images", ["apple_pie", "waffles"])
    return ["apple_pie", "waffles"]


def make_FGVCAircraft(root):
    folder = root / "fgvc_aircraft"
    images(folder / "images", [f"{number:07d}.jpg" for number in range(6)])
    (folder / "variants.txt").write_text("Spitfire\nDC-3\n")  # not sorted: labels follow the file's order
    for number, split in enumerate(("train", "val", "test")):
        lines = [f"{2 * number:07d} Spitfire", f"{2 * number + 1:07d} DC-3"]
        (folder / f"images_variant_{split}.txt").write_text("\n".join(lines) + "\n")
    return ["Spitfire", "DC-3"]


def make_SUN397(root):
    folder = root / "sun397"
    scenes = {"/a/abbey": "abbey", "/a/apse/indoor": "indoor apse"}
    for scene in scenes:
        images(folder / f"SUN397{scene}", [f"sun_{number}.jpg" for number in range(6)])
    (folder / "ClassName.txt").write_text("\n".join(scenes))
    (folder / "Training_01.txt").write_text("\n".join(f"{scene}/sun_{n}.jpg" for scene in scenes for n in range(5)))
    (folder / "Testing_01.txt").write_text("\n".join(f"{scene}/sun_5.jpg" for scene in scenes))
    return list(scenes.values())


def make_DescribableTextures(root):
    folders(root / "dtd/images", ["banded", "blotchy"])
    return ["banded", "blotchy"]


def make_EuroSAT(root):
    folders(root / "eurosat/2750", ["SeaLake", "AnnualCrop"])
    return ["Annual Crop Land", "Sea or Lake"]


def make_UCF101(root):
    folder = root / "ucf101"
    actions = {"ApplyEyeMakeup": "Apply_Eye_Makeup", "YoYo": "Yo_Yo"}
    for action, name in actions.items():
        images(folder / "UCF-101-midframes" / name, [f"v_{action}_g{number:02d}.jpg" for number in range(6)])
    lists = folder / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 ApplyEyeMakeup\n2 YoYo\n")
    (lists / "trainlist01.txt").write_text(
        "\n".join(f"{a}/v_{a}_g{n:02d}.avi {label}" for label, a in enumerate(actions, 1) for n in range(5))
    )
    (lists / "testlist01.txt").write_text("\n".join(f"{a}/v_{a}_g05.avi" for a in actions))
    return list(actions.values())


WNIDS = {"n01440764": "tench", "n01443537": "goldfish", "n01484850": "great white shark"}


def classnames(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classnames.txt").write_text("\n".join(f"{wnid} {name}" for wnid, name in WNIDS.items()))


def make_ImageNet(root):
    classnames(root / "imagenet")
    for split in ("train", "val"):
        folders(root / "imagenet/images" / split, reversed(list(WNIDS)))
    return list(WNIDS.values())


def make_ImageNetV2(root):
    classnames(root / "imagenetv2")
    folders(root / "imagenetv2/imagenetv2-matched-frequency-format-val", ["2", "0", "1"])
    return list(WNIDS.values())


def make_ImageNetSketch(root):
    classnames(root / "imagenet-sketch")
    folders(root / "imagenet-sketch/images", WNIDS)
    return list(WNIDS.values())


def make_ImageNetA(root):
    classnames(root / "imagenet-adversarial")
    folders(root / "imagenet-adversarial/imagenet-a", list(WNIDS)[1:])
    (root / "imagenet-adversarial/imagenet-a/README.txt").touch()
    return list(WNIDS.values())[1:]  # the classifier has only these classes


def make_ImageNetR(root):
    classnames(root / "imagenet-rendition")
    folders(root / "imagenet-rendition/imagenet-r", list(WNIDS)[:2])
    return list(WNIDS.values())[:2]


def class_folders(root, name, classes):
    cls = DATASET_REGISTRY.get(name)
    folders(root / cls.dataset_dir / cls.image_dir, classes)
    return classes


def make_FruitVegetable(root):
    return class_folders(root, "FruitVegetable", ["apple", "banana"])


def make_KaggleFlower(root):
    return class_folders(root, "KaggleFlower", ["daisy", "rose"])


def make_KaggleMushroom(root):
    return class_folders(root, "KaggleMushroom", ["Agaricus", "Amanita"])


def make_KaggleVegetable(root):
    return class_folders(root, "KaggleVegetable", ["Bean", "Carrot"])


def make_PlantSeedlingV1(root):
    return class_folders(root, "PlantSeedlingV1", ["Black-grass", "Charlock"])


def make_PlantVillage(root):
    class_folders(root, "PlantVillage", ["Apple___Apple_scab", "Corn___healthy"])
    return ["Apple Apple scab", "Corn healthy"]  # class names are the words of the folder names


def make_Folder(root):
    folders(root / "mine", ["b", "a"])
    return ["a", "b"]


def emoji(category):
    """Names of all drawn classes of a category ("": all). The data set makes its images itself."""
    return [entry["name"] for entry in read_drawings()["classes"] if category in ("", entry["category"])]


def make_Emoji(root):
    return emoji("")


def make_EmojiAnimals(root):
    return emoji("animals")


def make_EmojiFood(root):
    return emoji("food")


def make_EmojiTravel(root):
    return emoji("travel")


def make_EmojiObjects(root):
    return emoji("objects")


def make_EmojiActivities(root):
    return emoji("activities")


make_EmojiV2 = make_EmojiSketch = make_EmojiA = make_EmojiR = make_Emoji
