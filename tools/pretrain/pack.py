"""Packs the emoji drawings into assets/emoji/drawings.json.xz: pack.py FOLDER_FOR_PACKAGES.

The drawings come from npm packages whose licences allow copying. Missing packages are downloaded to
FOLDER_FOR_PACKAGES. A class is a concrete thing that has a drawing in both held-out styles, Noto and Fluent. Clock
faces are left out, because they show times, not things.
"""

import json
import lzma
import sys
from pathlib import Path

from datasets.scenes import DrawnClass
from tools.pretrain.packages import PERMISSIVE, Icons, fetch

FILE = Path(__file__).resolve().parents[2] / "assets" / "emoji" / "drawings.json.xz"
#: Maps a category of the Noto package to our category.
CATEGORIES = {
    "Animals & Nature": "animals",
    "Food & Drink": "food",
    "Travel & Places": "travel",
    "Objects": "objects",
    "Activities": "activities",
}


def classes(icons: dict[str, Icons]) -> list[DrawnClass]:
    """Return all classes in the order of CATEGORIES. Within a category, the classes are sorted by name.

    Args:
        icons: maps each style to the icons of its package.
    """
    found, taken = [], set()
    for noto_category, category in CATEGORIES.items():
        for name in sorted(icons["noto"].categories[noto_category]):
            drawings = {style: icons[style].svg(name) for style in icons}
            if name.endswith(("oclock", "thirty")) or not (drawings["noto"] and drawings["fluent"]):
                continue
            aliases = {alias for style in ("noto", "twemoji") for alias in icons[style].aliases(name)}
            found.append((name, category, aliases, drawings))
            taken.add(name)
    return [
        {
            "name": name.replace("-", " "),
            "category": category,
            "aliases": sorted(alias.replace("-", " ") for alias in aliases - taken),
            "drawings": {style: svg for style, svg in drawings.items() if svg},
        }
        for name, category, aliases, drawings in found
    ]


def main(folder: Path) -> None:
    icons = {style: Icons(fetch(package, version, folder)) for style, (package, version, *_) in PERMISSIVE.items()}
    styles = {
        style: {"package": f"@iconify-json/{package}", "version": version, "licence": licence, "source": source}
        for style, (package, version, licence, source) in PERMISSIVE.items()
    }
    content = json.dumps({"styles": styles, "classes": classes(icons)}, separators=(",", ":"), sort_keys=True)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_bytes(lzma.compress(content.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{FILE}: {content.count('<svg ')} drawings, {FILE.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/pretrain/pack.py FOLDER_FOR_PACKAGES")
    main(Path(sys.argv[1]))
