"""Where weights lie and which styles there are, and the user's own among them. Reads file headers only: no torch."""

from __future__ import annotations

import base64
import difflib
import logging
import os
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from stylenorm.architecture import KINDS
from stylenorm.drafts import reach
from stylenorm.errors import StyleError, StylenormError, WeightsError, as_word, counted, in_short, path_of
from stylenorm.metadata import read_metadata

NETWORK = "network.safetensors"
GENERATION = "generate.safetensors"
VGG = "vgg16.safetensors"
FACES, PEOPLE = "faces.onnx", "people.onnx"
BODIES = "pose_detection.tflite", "pose_landmark_full.tflite"  # as MediaPipe calls them
LONGEST_NAME = 200  # bytes in UTF-8: a file's name has 255
RESERVED = frozenset(["con", "prn", "aux", "nul"] + [f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)])
STYLE_NAME = re.compile(r"[\w][\w .-]{0,63}")


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
        return _folder_in("STYLENORM_WEIGHTS")
    return shipped_folder()


def shipped_folder() -> Path:
    """Where the weights are that come with the package, which are under its licence."""
    package = Path(__file__).resolve().parent
    inside = package / "weights"
    return inside if inside.is_dir() else package.parent / "weights"


def network_file(weights: str | Path | None = None) -> Path:
    """The network file in ``weights`` (a folder, or the file itself), by default in `weights_folder`."""
    path = path_of(weights, "a network") if weights is not None else weights_folder()
    path = path / NETWORK if path.is_dir() else path
    if not path.is_file():
        reach(path)
        raise WeightsError(f"{path} does not exist; give a network file, or a folder that holds {NETWORK}")
    return path


def generation_file(weights: str | Path | None = None) -> Path:
    """The network that paints noise, beside the stylizing network."""
    path = network_file(weights).parent / GENERATION
    if not path.is_file():
        reach(path)
        raise WeightsError(f"{path} does not exist; make it with stylenorm train-generate")
    return path


def vgg_file(weights: str | Path | None = None) -> Path:
    """VGG-16's features: beside the network, or where the shipped weights are."""
    if weights is not None:
        path = Path(weights)
        beside = (path if path.is_dir() else path.parent) / VGG
        if beside.is_file():
            return beside
    return weights_folder() / VGG


def faces_file() -> Path:
    """What finds faces, which comes with the package."""
    return shipped_folder() / FACES


def people_file() -> Path:
    """What tells people from all else, which comes with the package."""
    return shipped_folder() / PEOPLE


def bodies_files() -> tuple[Path, Path]:
    """What finds where people may be, and what looks at each of them; both come with the package."""
    places, bodies = BODIES
    return shipped_folder() / places, shipped_folder() / bodies


def compared_networks(folder: str | Path | None = None) -> dict[str, Path]:
    """{kind of normalization: network file} of what lies in ``folder``/KIND, by default in the shipped weights' compare/."""
    folder = weights_folder() / "compare" if folder is None else path_of(folder, "a folder of networks")
    return {kind: file for kind in sorted(KINDS) if (file := folder / kind / NETWORK).is_file()}


def require_compared_networks(folder: str | Path | None = None) -> dict[str, Path]:
    """The same; none at all raises `WeightsError`."""
    files = compared_networks(folder)
    if not files:
        where = weights_folder() / "compare" if folder is None else folder
        raise WeightsError(f"{where} holds no networks to compare; stylenorm compare --train makes them")
    return files


def user_folder() -> Path:
    """Where a user's own styles are kept: $STYLENORM_HOME, else the place that the system has for such data."""
    if os.environ.get("STYLENORM_HOME"):
        return _folder_in("STYLENORM_HOME")
    return _of_the_system("user_data_path")


def cache_folder() -> Path:
    """Where things are kept that can be made again: $STYLENORM_HOME/cache, else the place that the system has for such data."""
    if os.environ.get("STYLENORM_HOME"):
        return user_folder() / "cache"
    return _of_the_system("user_cache_path")


def _folder_in(variable: str) -> Path:
    """The folder that a variable names; ~ in it may not have come by a shell."""
    try:
        return Path(os.environ[variable]).expanduser()
    except RuntimeError:
        raise StylenormError(f"{variable} is {os.environ[variable]}, and no such home folder is known; give the whole path") from None


def _of_the_system(kind: str) -> Path:
    import platformdirs

    try:
        return getattr(platformdirs, kind)("stylenorm", appauthor=False)
    except RuntimeError:
        raise StylenormError("this user has no home folder; set STYLENORM_HOME to a folder, for styles of your own") from None


def user_styles_folder() -> Path:
    return user_folder() / "styles"


def photos_folder() -> Path:
    """The few photographs that come with the package, for examples and for training a style."""
    package = Path(__file__).resolve().parent
    inside = package / "examples"
    return inside if inside.is_dir() else package.parent / "examples"


def style_entries(weights: str | Path | None = None) -> list[StyleEntry]:
    """Every style that belongs to the network, beside it or in the user's folder, by name.

    Files of other networks are left out. Of two styles of one name the one beside the network counts. A broken
    file beside the network raises `WeightsError`; one in the user's folder is left out, and a warning is logged.
    """
    network = network_file(weights)
    digest = read_metadata(network, "network").get("hash")
    entries: dict[str, StyleEntry] = {}
    for path in _style_files(network.parent / "styles"):
        _enter(entries, path, read_metadata(path, "style"), digest)
    for path in _style_files(user_styles_folder()):
        try:
            _enter(entries, path, read_metadata(path, "style"), digest)
        except WeightsError as error:
            _warn(f"left out: {error}; or remove it with: stylenorm styles remove {as_word(path.stem)}")
    return list(entries.values())


def _style_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("."))


def _enter(entries: dict[str, StyleEntry], path: Path, values: dict, digest: str) -> None:
    if values.get("network") == digest:
        about, name = values.get("about", {}), values["name"]
        title, artist = (str(about[k]) if about.get(k) is not None else None for k in ("title", "artist"))
        entries.setdefault(name, StyleEntry(name, title, artist, about.get("year"), path))


@lru_cache(maxsize=256)
def _warn(text: str) -> None:
    """Log a warning once; where nobody has set up logging, it is a line on standard error."""
    logging.getLogger("stylenorm").warning("stylenorm: %s", " ".join(text.split()))


# ---- one style ---------------------------------------------------------------------------------


def find_style(name: str, weights: str | Path | None = None) -> StyleEntry:
    """The style called ``name``; an unknown one raises `StyleError`, with the nearest known ones."""
    entries = {entry.name: entry for entry in style_entries(weights)}
    if name not in entries:
        raise StyleError(unknown_style(name, entries))
    return entries[name]


TOLD_APART = "title", "artist", "year", "licence", "training", "thumbnail", "statistics"


def describe_style(entry: StyleEntry) -> dict:
    """What is known of a style: the painting, the file and its bytes, its network's hash, how it was trained.

    own: whether it lies in the user's folder. thumbnail: whether the file holds one, see `style_thumbnail`.
    more: whatever else the file tells.
    """
    values = read_metadata(entry.file, "style")
    about = values.get("about", {})
    return entry.to_dict() | {
        "licence": about.get("licence"),
        "bytes": entry.file.stat().st_size,
        "network": values.get("network"),
        "own": entry.file.parent == user_styles_folder(),
        "training": about.get("training"),
        "thumbnail": isinstance(about.get("thumbnail"), str),
        "more": {k: v for k, v in about.items() if k not in TOLD_APART},
    }


def style_thumbnail(entry: StyleEntry) -> bytes:
    """The small JPEG of the painting that a style file may hold. Raises `StyleError` where it holds none."""
    text = read_metadata(entry.file, "style").get("about", {}).get("thumbnail")
    if not isinstance(text, str):
        raise StyleError(f"the style {entry.name!r} has no thumbnail in its file; train-style puts one there")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise StyleError(f"the thumbnail in {entry.file} is damaged") from None


def check_name(name: str, weights: str | Path | None = None, folder: str | Path | None = None) -> str:
    """``name`` if a style can be called that: a plain file name that is not taken. Else `StyleError`."""
    check_spelling(name)
    folder = None if folder is None else path_of(folder, "a folder of styles")
    taken = {e.name.casefold() for e in style_entries(weights)}
    if name.casefold() in taken or (folder is not None and (folder / f"{name}.safetensors").exists()):
        raise StyleError(f"there is a style named {name!r} already; choose another name, or remove that one first")
    return name


def check_spelling(name: str) -> None:
    """`StyleError` unless ``name`` is a plain file name, which --style can tell from several and from a weight."""
    if not isinstance(name, str):
        raise StyleError(f"a style's name is a text, which {in_short(name)} is not")
    if not STYLE_NAME.fullmatch(name) or name.endswith((".", " ")) or len(name.encode()) > LONGEST_NAME:
        raise StyleError(f"{name!r} cannot name a style; use up to 64 letters, digits, spaces, dots, - and _")
    if name.split(".")[0].casefold() in RESERVED:
        raise StyleError(f"{name!r} cannot name a style, for Windows keeps that name for a device; choose another")


def add_style(file: str | Path, name: str | None = None, weights: str | Path | None = None) -> StyleEntry:
    """Copy a style file into the user's folder, perhaps under another name: usable at once, and never half a file.

    Raises `StyleError` or `WeightsError` if it is broken, is no style, belongs to another network than the one in
    ``weights``, or if its name is taken; then nothing is written.
    """
    from dataclasses import replace

    from stylenorm.checkpoint import load_network, load_style, save_style

    network = load_network(network_file(weights))
    style = load_style(file, network.hash)
    if style.channels != network.generator.config.channels:
        raise StyleError(f"the style in {file} has other channels than the network that it names; it is damaged")
    name = style.name if name is None else name
    target = user_styles_folder() / f"{check_name(name, weights, user_styles_folder())}.safetensors"
    save_style(target, replace(style, name=name))
    return find_style(name, weights)


def remove_style(name: str, weights: str | Path | None = None) -> Path:
    """Delete a style of the user's own and return the file that it was; one that is broken, or of another network, by its file's name. In any case where that is clear.

    Raises `StyleError` for a style beside the network, which stays, and for one that does not exist.
    """
    digest = read_metadata(network_file(weights), "network").get("hash")
    told = {path: _told_by(path) for path in _style_files(user_styles_folder())}
    own = [path for path, values in told.items() if values.get("name") == name and values.get("network") == digest]
    own += [path for path, values in told.items() if path.stem == name and values.get("network") != digest]
    alike = [path for path, values in told.items() if values.get("network") == digest and str(values.get("name")).casefold() == name.casefold()]
    own += alike if len(alike) == 1 and not own else []
    if not own:
        entry = find_style(name, weights)
        raise StyleError(f"the style {name!r} came with the network, in {entry.file.parent}, and stays; only your own can be removed")
    try:
        own[0].unlink()
    except OSError as error:
        raise StylenormError(f"{own[0]} cannot be removed: {error.strerror}") from None
    return own[0]


def left_behind(weights: str | Path | None = None) -> dict[str, Path]:
    """{name: file} of the user's own styles that were made for another network, such as the one before an update."""
    digest = read_metadata(network_file(weights), "network").get("hash")
    told = {path: _told_by(path) for path in _style_files(user_styles_folder())}
    return {str(values["name"]): path for path, values in told.items() if "name" in values and values.get("network") != digest}


def told_of_left_behind(weights: str | Path | None = None) -> str | None:
    """A sentence about `left_behind`, if there are any."""
    names = left_behind(weights)
    if not names:
        return None
    made = counted(len(names), "style of yours was", "styles of yours were")
    return f"{made} made for another network ({', '.join(names)}); bring {'it' if len(names) == 1 else 'them'} to this one with: stylenorm styles renew"


def renew_style(name: str, weights: str | Path | None = None) -> StyleEntry:
    """Bring a style of the user's own that was made for another network to this one, under its name and in its file.

    The encoder predicts γ and β for its painting, of which the file keeps the statistics: what training added to that is lost.
    Raises `StyleError` where there is no such style, where its file keeps none, or where its name is taken by now; then nothing is written.
    """
    from stylenorm.checkpoint import load_network, load_style, save_style, statistics_told
    from stylenorm.style import Style

    files = left_behind(weights)
    if name not in files:
        raise StyleError(f"the style {find_style(name, weights).name!r} belongs to this network already")
    if name in {entry.name for entry in style_entries(weights)}:
        raise StyleError(f"there is a style named {name!r} already; remove it, or the file {files[name]}")
    network, style = load_network(network_file(weights)), load_style(files[name])
    statistics, encoder = statistics_told(style), network.encoder
    if encoder is None or statistics is None or statistics.shape[1] != encoder.mean.numel():
        raise StyleError(f"{files[name]} does not tell of its painting what this network's encoder takes; train it again: stylenorm train-style")
    about = {k: v for k, v in style.provenance.items() if k != "training"} | {"renewed": True}
    flat = encoder(statistics).detach()
    save_style(files[name], Style.from_flat(flat, network.generator.config.channels, name=name, provenance=about, network=network.hash))
    return find_style(name, weights)


def _told_by(path: Path) -> dict:
    try:
        return read_metadata(path, "style")
    except WeightsError:
        return {}


def unknown_style(name: str, known: Collection[str]) -> str:
    """The sentence for a style name that does not exist, or that is another network's."""
    if any(_told_by(path).get("name") == name for path in _style_files(user_styles_folder())):
        return f"the style {name!r} was made for another network; bring it to this one with: stylenorm styles renew"
    near = difflib.get_close_matches(name, list(known), 3, 0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known) or 'none'}"
    return f"no style is named {name!r}; {hint}"
