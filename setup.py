"""Dependencies. The project runs from its own folder: `pip install -e .` installs what it needs and no package of its
own, since top-level names like `clip` and `datasets` would get in the way of other people's."""

from setuptools import setup

setup(
    name="prompt-learning",
    version="0.1.0",
    description="MaPLe and its kin: prompt learning for CLIP",
    python_requires=">=3.11",
    packages=[],
    py_modules=[],
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "open_clip_torch>=2.26",
        "yacs>=0.1.8",
        "filelock",
        "ftfy",
        "regex",
        "resvg_py",
        "gdown>=5.2",
        "huggingface_hub",
        "safetensors",
        "scipy",
        "scikit-learn>=1.3",
        "tensorboard",
        "tqdm",
        "jinja2",
        "matplotlib",
        "pandas",
        "psutil",
        "tabulate",
        "numpy",
        "pillow",
    ],
    extras_require={
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            "mypy>=1.11",
            "transformers>=4.44",
            "types-PyYAML",
            "types-psutil",
            "types-tqdm",
            "playwright",
            "submitit",
            "ray",
        ],
        "cluster": ["submitit", "ray"],
    },
)
