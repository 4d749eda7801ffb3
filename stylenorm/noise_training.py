"""Training from noise: the stylizing network learns to make pictures of no photograph, in the styles that it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from stylenorm.catalog import GENERATION, network_file, style_entries
from stylenorm.checkpoint import load_network, save_network
from stylenorm.config import GenerateConfig
from stylenorm.data import Batch, Crop, Pairs, find_images, style_name
from stylenorm.device import Group, autocast, joined, memory_format, telling_memory
from stylenorm.errors import StylenormError, path_of
from stylenorm.generator import Generator, GeneratorConfig, Moments
from stylenorm.metadata import read_metadata
from stylenorm.noise import Noise
from stylenorm.perceptual import diversity_loss, grams, style_loss
from stylenorm.settling import canvas, canvas_moments, stripping
from stylenorm.style import Style
from stylenorm.training import Progress, StyledModel, Trainer, undisturbed
from stylenorm.training_model import rows_from_files, smaller_grams

SEEDS = 2  # pictures of one style in a batch, each of a seed of its own
DIVERSITY_LAYER = "relu4_3"
BORDER = 64  # px about a picture that are painted and not judged


class Canvases(Dataset):
    """Item i: a square of noise of a seed of its own, in place of a photograph, with `BORDER` about it."""

    def __init__(self, config: GenerateConfig) -> None:
        self.size, self.first = config.size, (config.seed % 2**22) << 40
        self.noise = Noise(slope=config.slope, contrast=config.contrast, color=config.color)
        self.files = range(len(self))  # what a sheet of samples counts

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, index: int) -> Crop:
        noise, side = replace(self.noise, seed=self.first + index), self.size + 2 * BORDER
        return Crop(noise.window(-BORDER, -BORDER, side, side)[0], f"noise {index}")


class SeedPairs(Dataset):
    """Items 2 k and 2 k + 1: two canvases with the style, or the painting, of the k-th of ``pairs``."""

    def __init__(self, canvases: Canvases, pairs: Pairs) -> None:
        self.canvases, self.pairs = canvases, pairs

    def __len__(self) -> int:
        return len(self.canvases)

    def __getitem__(self, index: int) -> tuple[Crop, int, Crop | None]:
        _, named, painting = self.pairs[index // SEEDS]
        return self.canvases[index], named, painting


class NoiseTrainer(Trainer):
    """A `Trainer` of a generator from noise. Styles and encoder stay as the stylizing network has them.

    So every style, blend, region and any painting's predicted style of that network serve the result as they are.
    Style is judged at the picture's size and at smaller ones (Snelgrove 2017). Pictures are painted as `NoisePainter`
    paints them, with the moments of a canvas and as parts of larger ones: a network that sees its mirrored edges from
    everywhere in a small picture learns to live by them.
    """

    FILE = GENERATION
    PAINTED_ON = "noise"
    SMALLER = (2, 4)
    LEAST = SEEDS
    BORDER = BORDER
    MEASURED = False

    def __init__(self, config: GenerateConfig, resume: bool = False, group: Group = Group()) -> None:
        init = network_file(config.init)
        told = read_metadata(init, "network")
        if told.get("about", {}).get("styles_of"):  # a result of this training
            raise StylenormError(f"{init} paints noise in the styles of another network; give --init that one, and --generator this one to go on from it")
        self.styles_of = told["hash"]
        known = [entry.name for entry in style_entries(init)]
        names = config.names
        if not told.get("encoder") and (config.paintings or set(names) - set(known)):
            raise StylenormError(f"{init} has no style encoder, and takes no painting but those of its named styles; leave --paintings out")
        if config.styles and not names:
            there = {style_name(path) for path in find_images(config.styles)}
            names = tuple(name for name in known if name in there)
            if not names:
                raise StylenormError(f"no picture in {config.styles} is called as a style of {init} is; give --names, or leave --styles out")
        super().__init__(replace(config, init=str(init), names=names), resume, group)

    def _find_photos(self, cache: int) -> int:
        self.photos, config = Canvases(self.config), self.config
        whole = canvas(slope=config.slope, contrast=config.contrast, color=config.color)
        self.canvas = whole.to(self.device, memory_format=memory_format(self.device))
        return 0

    def _find_pictures(self) -> None:
        super()._find_pictures()
        self.pairs = SeedPairs(self.photos, self.pairs)

    def _unseen(self) -> Canvases:
        return Canvases(replace(self.config, seed=self.config.seed + 2**20))

    def _new_model(self) -> tuple[StyledModel, int]:
        model, _ = super()._new_model()
        files = {entry.name: entry.file for entry in style_entries(self.config.init)}  # the user's own as well
        rows_from_files(model, files, self.named, self.styles_of)
        if self.config.generator:
            model.generator.load_state_dict(self._earlier(model.generator.config).state_dict())
        model.encoder.requires_grad_(False)
        model.rows.requires_grad_(False)
        return model, 0

    def _earlier(self, config: GeneratorConfig) -> Generator:
        """The generator that the run starts from, which paints in the styles of the network of --init."""
        file = path_of(self.config.generator, "a network file")
        network = load_network(file)
        if network.about.get("styles_of") != self.styles_of or network.generator.config != config:
            told = "paints in the styles of another network than --init" if network.about.get("styles_of") else "was not made by train-generate"
            raise StylenormError(f"{file} {told}; give another --generator, or leave it out")
        return network.generator

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Diversity and style loss of each picture, and zeros, (N,) all three."""
        batch = self._there(batch)
        named, paintings = batch.named, batch.paintings
        if paintings is not None:  # each is looked at once for its pictures
            paintings = paintings[::SEEDS].contiguous(memory_format=memory_format(self.device))
        with autocast(self.device):
            with torch.no_grad():
                goals, statistics = self.named.goals(self.vgg, named[::SEEDS], paintings)
                goals = {layer: gram.repeat_interleave(SEEDS, 0) for layer, gram in goals.items()}
                strip = self._strip(statistics, named[::SEEDS])
            painted = self.painter(batch.photos, statistics.repeat_interleave(SEEDS, 0), named, strip)[..., BORDER:-BORDER, BORDER:-BORDER]
            painted = painted.contiguous(memory_format=memory_format(self.device))
            features = self.vgg(painted)
            found = grams(features) | smaller_grams(self.vgg, painted, self.SMALLER)
            style = style_loss(found, goals)
        return diversity_loss(features[DIVERSITY_LAYER], SEEDS), style, torch.zeros_like(style)

    def _strip(self, statistics: Tensor, named: Tensor) -> Callable[[int, Tensor], Moments] | None:
        with torch.compiler.set_stance("force_eager"):  # once a step, and of another size
            return self._stripping(self.model.generator, self.model.flat_styles(statistics, named), SEEDS)

    def _stripping(self, generator: Generator, flats: Tensor, count: int) -> Callable[[int, Tensor], Moments] | None:
        """The moments that pictures in styles (S, 2, T), each of ``count``, are made with: see `NoisePainter`.

        With each picture's own, a training comes nearer to the style with pictures that nobody will see.
        """
        config = generator.config
        if config.norm == "batch":  # learns its own
            return None
        styles = [Style.from_flat(flat[None], config.channels) for flat in flats]
        return stripping(generator, [canvas_moments(generator, style, self.canvas) for style in styles], count)

    def _painted(self, pictures: Tensor, flat: Tensor) -> Tensor:
        generator, count = self.average.generator, len(pictures)
        style = Style.from_flat(flat.expand(count, -1, -1), generator.config.channels)
        return generator(pictures, style, self._stripping(generator, flat, count))[..., BORDER:-BORDER, BORDER:-BORDER]

    @torch.no_grad()
    def export(self, folder: Path) -> Path:
        """Write the averaged network into ``folder``, with the hash of the network whose styles it takes."""
        path = Path(folder) / self.FILE
        if self.group.first:
            save_network(path, self.average.generator, None, training=self._about(), styles_of=self.styles_of)
        return path


@torch.inference_mode(False)  # it learns whatever the caller has switched off
def train_generate(
    config: GenerateConfig, resume: bool = False, progress: Callable[[Progress], None] | None = None
) -> Path:
    """Train as ``config`` says and return the network file. Raises `StylenormError` in one sentence."""
    with joined(config.device) as group:
        if config.batch // group.size % SEEDS:
            way = "start fewer" if resume else "give a larger --batch"
            raise StylenormError(f"{group.size} processes cannot share a batch of {config.batch} in pairs; {way}")
        with undisturbed(Path(config.out), group):
            with telling_memory("give a smaller --style-size"):
                trainer = NoiseTrainer(config, resume, group)
            return trainer.run(progress)
