"""The data sets of the papers' tables. Methods whose settings depend on the data set use these names in `values`."""

#: The data sets that the papers train on.
PAPER_DATASETS = (
    "ImageNet",
    "Caltech101",
    "OxfordPets",
    "StanfordCars",
    "OxfordFlowers",
    "Food101",
    "FGVCAircraft",
    "SUN397",
    "DescribableTextures",
    "EuroSAT",
    "UCF101",
)
_VARIANTS = ("ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR")


def training_dataset(dataset: str, protocol: str) -> str:
    """Return the data set on which a run's prompts are trained. Both names are class names of data sets.

    In the papers' cross-dataset protocol, all prompts are trained on ImageNet. A test must use the settings of the
    training, because the shapes of the prompts depend on the settings. For other data sets, return `dataset`.
    """
    transferred = protocol == "cross_dataset" and dataset in (*PAPER_DATASETS, *_VARIANTS)
    return "ImageNet" if transferred else dataset
