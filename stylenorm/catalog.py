"""Where weights lie and which styles there are. Reads file headers only: no torch."""

from __future__ import annotations

import difflib
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from stylenorm.errors import WeightsError
from stylenorm.metadata import read_metadata

NETWORK = "network.safetensors"
VGG = "vgg16.safetensors"


@dataclass(frozen=True)
class StyleEntry:
    """A style file: its name, the painting behind it as far as known, and where the file lies."""

    name: str
    title: str | None
    artist: str | None
    year: int | None
    file: Path

    def to_dict(self) -> dict:
        return asdict(self) | {"file": str(self.file)}


def weights_folder() -> Path:
    """$STYLENORM_WEIGHTS, else the folder inside the installed package, else the one beside it in a checkout."""
    if os.environ.get("STYLENORM_WEIGHTS"):
        return Path(os.environ["STYLENORM_WEIGHTS"])
    package = Path(__file__).resolve().parent
    inside = package / "weights"
    return inside if inside.is_dir() else package.parent / "weights"


def network_file(weights: str | Path | None = None) -> Path:
    """The network file in ``weights`` (a folder, or the file itself), by default in `weights_folder`."""
    path = Path(weights) if weights is not None else weights_folder()
    path = path / NETWORK if path.is_dir() else path
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; give a network file, or a folder that holds {NETWORK}")
    return path


def vgg_file(weights: str | Path | None = None) -> Path:
    """VGG-16's features: beside the network, or where the shipped weights are."""
    if weights is not None:
        path = Path(weights)
        beside = (path if path.is_dir() else path.parent) / VGG
        if beside.is_file():
            return beside
    return weights_folder() / VGG


def user_folder() -> Path:
    """Where a user's own styles are kept: $STYLENORM_HOME, else the place that the system has for such data."""
    if os.environ.get("STYLENORM_HOME"):
        return Path(os.environ["STYLENORM_HOME"])
    from platformdirs import user_data_path

    return user_data_path("stylenorm", appauthor=False)


def user_styles_folder() -> Path:
    return user_folder() / "styles"


def photos_folder() -> Path:
    """The few photographs that come with the package, for examples and for training a style."""
    package = Path(__file__).resolve().parent
    inside = package / "examples"
    return inside if inside.is_dir() else package.parent / "examples"


def style_entries(weights: str | Path | None = None) -> list[StyleEntry]:
    """Every style that belongs to the network, beside it or in the user's folder, by name.

    Files of other networks are left out. Of two styles of one name the one beside the network counts.
    """
    network = network_file(weights)
    digest = read_metadata(network, "network").get("hash")
    entries: dict[str, StyleEntry] = {}
    for folder in (network.parent / "styles", user_styles_folder()):
        for path in sorted(folder.glob("*.safetensors")):
            values = read_metadata(path, "style")
            if values.get("network") == digest:
                about, name = values.get("about", {}), values["name"]
                entries.setdefault(name, StyleEntry(name, about.get("title"), about.get("artist"), about.get("year"), path))
    return list(entries.values())


def unknown_style(name: str, known) -> str:
    """The sentence for a style name that does not exist."""
    near = difflib.get_close_matches(name, list(known), 3, 0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known) or 'none'}"
    return f"no style is named {name!r}; {hint}"
