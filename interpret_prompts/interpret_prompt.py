"""Prints the TOPK nearest words of learned text prompts: interpret_prompt.py FILE TOPK. See tools/nearest_words.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.nearest_words import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
