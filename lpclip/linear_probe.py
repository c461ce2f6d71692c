"""Trains few-shot linear probes on the features that feat_extractor.py wrote. See tools/linear_probe_search.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.linear_probe_search import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
