"""Downloads npm packages of emoji drawings and reads their SVGs. `pack.py` and `pretrain.py` use this module."""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

#: Packages whose drawings are in the repository. All packages are icon sets of Iconify.
#: Maps a style to (package, version, licence, attribution that the licence requires).
PERMISSIVE = {
    "noto": ("noto", "1.2.9", "Apache-2.0", "Noto Emoji, Google Inc, github.com/googlefonts/noto-emoji"),
    "fluent": ("fluent-emoji-flat", "1.2.6", "MIT", "Fluent UI Emoji, Microsoft, github.com/microsoft/fluentui-emoji"),
    "fluent-line": ("fluent-emoji-high-contrast", "1.2.6", "MIT", "Fluent UI Emoji, high contrast, Microsoft"),
    "noto-v1": ("noto-v1", "1.2.5", "Apache-2.0", "Noto Emoji before 2017, Google Inc"),
    "twemoji": ("twemoji", "1.2.5", "CC-BY-4.0", "Twemoji, Twitter and contributors, github.com/jdecked/twemoji"),
    "emojione": ("emojione", "1.2.3", "CC-BY-4.0", "Emoji One 2, EmojiTwo, github.com/EmojiTwo/emojitwo"),
    "emojione-line": ("emojione-monotone", "1.2.1", "CC-BY-4.0", "Emoji One 2, monotone, EmojiTwo"),
    "fxemoji": ("fxemoji", "1.2.2", "Apache-2.0", "FxEmojis, Mozilla, github.com/mozilla/fxemoji"),
}
#: Packages for pretraining only. Their drawings can't be in the repository, because their licence is share-alike.
SHARE_ALIKE = {
    "openmoji": ("openmoji", "1.2.29", "CC-BY-SA-4.0", "OpenMoji, HfG Schwaebisch Gmuend, openmoji.org"),
    "emojione-v1": ("emojione-v1", "1.2.3", "CC-BY-SA-4.0", "Emoji One 1, JoyPixels"),
}


def fetch(package: str, version: str, folder: Path) -> Path:
    """Return the path of a package's archive in `folder`. If the archive is missing, download it with npm."""
    archive = folder / f"iconify-json-{package}-{version}.tgz"
    if not archive.is_file():
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit(f"error: {archive} is missing and can't be downloaded, because npm isn't installed")
        folder.mkdir(parents=True, exist_ok=True)
        arguments = ["pack", "--silent", f"@iconify-json/{package}@{version}", "--pack-destination", str(folder)]
        subprocess.run([npm, *arguments], check=True)
    return archive


class Icons:
    """The icons in the archive of an Iconify package. `categories` maps a category to the names of its icons."""

    def __init__(self, archive: Path):
        with tarfile.open(archive) as tar:
            members = tar.getnames()
            self._set = json.load(tar.extractfile("package/icons.json"))  # type: ignore[arg-type]
            metadata = "package/metadata.json"
            self.categories: dict[str, list[str]] = {}
            if metadata in members:
                self.categories = json.load(tar.extractfile(metadata)).get("categories", {})  # type: ignore[arg-type]
        aliases = self._set.get("aliases", {})
        # An alias with a key besides `parent` is a rotated or mirrored icon, so it isn't a second name of `parent`.
        parents = {name: alias["parent"] for name, alias in aliases.items() if set(alias) == {"parent"}}
        self._icon = {name: name for name in self._set["icons"]}  # maps a name or an alias to the name of the icon
        for name, parent in parents.items():
            while parent in parents:
                parent = parents[parent]
            if parent in self._set["icons"]:
                self._icon[name] = parent
        self._by_letters = {name.replace("-", ""): icon for name, icon in self._icon.items()}

    def svg(self, name: str) -> str | None:
        """Return an icon's SVG text, or None if the package has no such icon. `currentColor` is replaced by black."""
        icon = self._icon.get(name) or self._by_letters.get(name.replace("-", ""))
        if icon is None:
            return None
        entry = self._set["icons"][icon]
        left, top = entry.get("left", 0), entry.get("top", 0)
        width, height = (entry.get(side, self._set.get(side, 16)) for side in ("width", "height"))
        body = entry["body"].replace("currentColor", "#000")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}">{body}</svg>'
        )

    def aliases(self, name: str) -> list[str]:
        """Return the other names of the icon called `name`. `name` is the icon's main name or one of its aliases."""
        return sorted(other for other, icon in self._icon.items() if icon == self._icon.get(name) and other != name)
