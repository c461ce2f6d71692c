"""EuroSAT: satellite images of 10 types of land use (Helber et al., 2019)."""

import random

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Download, FewShotDataset, Splits, gdrive


@DATASET_REGISTRY.register()
class EuroSAT(FewShotDataset):
    """Most class names differ from the folder names. For example, AnnualCrop becomes "Annual Crop Land"."""

    dataset_dir = "eurosat"
    image_dir = "2750"
    split_file = "split_zhou_EuroSAT.json"
    template = "a centered satellite photo of {}."
    downloads = (
        Download(
            "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
            "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
            md5="c8fa014336c82ac7804f0398fcb19387",
        ),
        Download(gdrive("1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o"), split_file, entries=(13500, 5400, 8100)),
    )
    new_cnames = {
        "AnnualCrop": "Annual Crop Land",
        "Forest": "Forest",
        "HerbaceousVegetation": "Herbaceous Vegetation Land",
        "Highway": "Highway or Road",
        "Industrial": "Industrial Buildings",
        "Pasture": "Pasture Land",
        "PermanentCrop": "Permanent Crop Land",
        "Residential": "Residential Buildings",
        "River": "River",
        "SeaLake": "Sea or Lake",
    }

    def read_annotations(self, rng: random.Random) -> Splits:
        return self.read_and_split_data(self.image_dir, new_cnames=self.new_cnames, rng=rng)
