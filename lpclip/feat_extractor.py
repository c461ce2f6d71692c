"""Writes CLIP's image features of one split of a data set. See tools/linear_probe_features.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.linear_probe_features import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
