"""What is trained, and towards what: the network with a row a named style, and the named paintings' numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylenorm.catalog import check_spelling
from stylenorm.checkpoint import load_network, load_style
from stylenorm.config import TrainConfig
from stylenorm.data import RandomCrops, find_images, painting_rgb, style_name
from stylenorm.device import memory_format
from stylenorm.errors import ImageError, StyleError, StylenormError, in_short
from stylenorm.generator import Generator, GeneratorConfig, Moments
from stylenorm.growing import grown, wider
from stylenorm.images import to_tensor
from stylenorm.perceptual import VGGFeatures, grams, resized_short_side, style_statistics
from stylenorm.style import Style, StyleEncoder


class StyledModel(nn.Module):
    """What is trained: the generator, the encoder, and for each named style a row added to its prediction.

    A named style's γ and β are encoder(painting) + row. So named styles learn from all paintings at once, and
    the row has to hold only what the encoder misses.
    """

    def __init__(self, config: GeneratorConfig, styles: int) -> None:
        super().__init__()
        self.generator = Generator(config)
        self.encoder = StyleEncoder(config.channels)
        self.rows = nn.Parameter(torch.zeros(styles, 2, sum(config.channels)))

    def flat_styles(self, statistics: Tensor, named: Tensor) -> Tensor:
        """Statistics (N, D) and style indices (N,), -1 for none, to (N, 2, T)."""
        with torch.autocast(statistics.device.type, enabled=False):
            flat = self.encoder(statistics.float())
            if not len(self.rows):
                return flat
            is_named = (named >= 0)[:, None, None]
            return flat + torch.where(is_named, self.rows[named.clamp_min(0)], 0.0)

    def forward(
        self, photos: Tensor, statistics: Tensor, named: Tensor, moments: Callable[[int, Tensor], Moments] | None = None
    ) -> Tensor:
        flat = self.flat_styles(statistics, named)
        return self.generator(photos, Style.from_flat(flat, self.generator.config.channels), moments)


@dataclass
class NamedStyles:
    """The named paintings: their Gram matrices {layer: (S, C, C)}, VGG statistics (S, D), names and provenance."""

    names: list[str]
    grams: dict[str, Tensor]
    statistics: Tensor
    provenance: list[dict]
    smaller: tuple[int, ...] = ()  # see `describe`

    def goals(self, vgg: VGGFeatures, named: Tensor, paintings: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        """Target Gram matrices and style statistics, a row a picture.

        named (N,): indices into the table, or -1 for the next of ``paintings`` (M, 3, H, W), of which there are as
        many as -1s, or None.
        """
        described = describe(vgg, paintings, self.smaller) if paintings is not None else ({}, None)
        goals = {layer: self._chosen(table, named, described[0].get(layer)) for layer, table in self.grams.items()}
        return goals or described[0], self._chosen(self.statistics, named, described[1])

    def _chosen(self, table: Tensor, named: Tensor, others: Tensor | None) -> Tensor:
        """For each index its row of ``table`` (S, ...), and for each -1 the next of ``others`` (M, ...), in one (N, ...).

        Everything has a size that is known beforehand: so nobody waits for a GPU to tell how many there are.
        """
        if not self.names:
            return others
        chosen = table[named.clamp_min(0)]
        if others is None:
            return chosen
        is_named = named >= 0
        place = ((~is_named).cumsum(0) - 1).clamp_min(0)
        return torch.where(is_named.view(-1, *[1] * (table.dim() - 1)), chosen, others[place])


def load_vgg(source: str | None, device: torch.device) -> VGGFeatures:
    """VGG-16's features from a safetensors file, from "torchvision", or (None) from the shipped weights."""
    if source == "torchvision":
        from stylenorm.compat import torchvision

        weights = torchvision().models.VGG16_Weights.IMAGENET1K_FEATURES
        try:
            vgg = VGGFeatures.from_state(weights.get_state_dict(progress=True))
        except OSError as error:  # no network, above all
            raise StylenormError(f"VGG-16 could not be downloaded ({error}); give a file with --vgg, or leave it out for the shipped one") from None
    else:
        from stylenorm.catalog import vgg_file

        path = source or vgg_file()
        vgg = VGGFeatures.from_file(path)
    return vgg.to(device, memory_format=memory_format(device))


def painting_tensor(path: str | Path, size: int) -> Tensor:
    """A painting as (1, 3, H, W) in [0, 1], its short side ``size`` px. Raises `ImageError`."""
    rgb = to_tensor(painting_rgb(path))
    try:
        return resized_short_side(rgb, size)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


@torch.no_grad()
def describe(vgg: VGGFeatures, pictures: Tensor, smaller: tuple[int, ...] = ()) -> tuple[dict[str, Tensor], Tensor]:
    """Gram matrices, at smaller scales as well (`smaller_grams`), and style statistics of pictures (N, 3, H, W)."""
    features = vgg(pictures)
    return grams(features) | smaller_grams(vgg, pictures, smaller), style_statistics(features)


def smaller_grams(vgg: VGGFeatures, pictures: Tensor, smaller: tuple[int, ...]) -> dict[str, Tensor]:
    """Gram matrices of the pictures made so many times smaller, which show larger forms (Snelgrove 2017)."""
    sizes = {scale: F.avg_pool2d(pictures, scale) for scale in smaller}
    return {f"{layer}/{scale}": gram for scale, x in sizes.items() for layer, gram in grams(vgg(x)).items()}


def load_named(
    folder: str | Path, names: tuple[str, ...], size: int, vgg: VGGFeatures, device, smaller: tuple[int, ...] = (),
    out: str | Path | None = None,
) -> NamedStyles:
    files, names = _by_name(folder, out), tuple(normalize("NFC", name) for name in names)
    unknown = [n for n in names if n not in files]
    if unknown:
        raise StylenormError(f"{folder} has no painting named {unknown[0]!r}; it has {', '.join(files)}")
    chosen = list(dict.fromkeys(names)) or list(files)
    for name in chosen:
        try:
            check_spelling(name)
        except StyleError as error:
            raise StyleError(f"{files[name]}: {error}") from None
    described = [describe(vgg, painting_tensor(files[n], size).to(device), smaller) for n in chosen]
    known = _provenance(Path(folder) / "styles.json")
    return NamedStyles(
        names=chosen,
        grams={layer: torch.cat([g[layer] for g, _ in described]) for layer in described[0][0]},
        statistics=torch.cat([s for _, s in described]),
        provenance=[known.get(n, {}) | {"file": files[n].name, "style_size": size} for n in chosen],
        smaller=smaller,
    )


def _by_name(folder: str | Path, out: str | Path | None) -> dict[str, Path]:
    """Paintings by the names of their styles, which are files that no system may take for one."""
    files: dict[str, Path] = {}
    taken: dict[str, Path] = {}
    for path in find_images(folder, out):
        other = taken.setdefault(style_name(path).casefold(), path)
        if other is not path:
            raise StylenormError(f"{other} and {path} would be styles of one name; rename one of them")
        files[style_name(path)] = path
    return files


def _provenance(path: Path) -> dict[str, dict]:
    """styles.json: a list of objects with a name, or an object of objects. A folder need not have one."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))  # Windows may begin it with a mark
        rows = values if isinstance(values, list) else [{"name": k} | v for k, v in values.items()]
        keys = ("title", "artist", "year", "artist_died", "licence", "source")
        known = {row["name"]: {k: row[k] for k in keys if k in row} for row in rows}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise StylenormError(f"{path} is not a list of objects with a name, title, artist and year") from None
    for name, key, value in ((name, *pair) for name, about in known.items() for pair in about.items()):
        if isinstance(value, bool) or not isinstance(value, (str, int, float, type(None))):
            raise StylenormError(f"{path} gives {in_short(value)} as the {key} of {name!r}; give a text or a number")
    return known


def new_model(
    config: TrainConfig, named: NamedStyles, paintings: RandomCrops | None, vgg: VGGFeatures
) -> tuple[StyledModel, int]:
    """The model before the first step, and how many photographs the network that it starts from has seen."""
    if not config.init:
        shape = GeneratorConfig(config.widths, config.blocks, config.norm, config.num_groups)
        model = StyledModel(shape, len(named.names))
        if config.encoder_width not in (None, model.encoder.layers[0].out_features):
            model.encoder = StyleEncoder(shape.channels, hidden=config.encoder_width)
        _standardize(model.encoder, named, paintings, vgg)
        return model, 0
    network = load_network(config.init)
    model = StyledModel(network.generator.config, len(named.names))
    model.generator.load_state_dict(network.generator.state_dict())
    if network.encoder is None:
        _standardize(model.encoder, named, paintings, vgg)
    else:
        model.encoder = network.encoder  # of whatever width it has
    beside = {name: Path(config.init).parent / "styles" / f"{name}.safetensors" for name in named.names}
    rows_from_files(model, {name: file for name, file in beside.items() if file.exists()}, named, network.hash)
    if config.grow or config.widen:
        model = grown(model, config.grow, config.widen)
    if config.encoder_width:
        model.encoder = wider(model.encoder, config.encoder_width)
    earlier = network.about.get("training")
    return model, int(earlier.get("images", 0)) if isinstance(earlier, dict) else 0


@torch.no_grad()
def rows_from_files(model: StyledModel, files: Mapping[str, Path], named: NamedStyles, digest: str) -> None:
    """Styles that have a file go on from where they were; others start from their prediction."""
    for index, name in enumerate(named.names):
        if name in files:
            style = load_style(files[name], digest)
            predicted = model.encoder(named.statistics[index : index + 1].cpu())
            model.rows[index] = (style.flat() - predicted)[0]


@torch.no_grad()
def _standardize(encoder: StyleEncoder, named: NamedStyles, paintings: RandomCrops | None, vgg: VGGFeatures) -> None:
    """Mean and deviation of the statistics over up to 200 paintings and the named ones."""
    count, device = min(200, len(paintings.files)) if paintings else 0, named.statistics.device
    rows = [named.statistics]
    rows += [describe(vgg, paintings[i].pixels[None].to(device))[1] for i in range(count)]
    table = torch.cat(rows)
    encoder.mean.copy_(table.mean(0))
    encoder.std.copy_(table.std(0, correction=0).clamp_min(0.1))
