"""Training: named styles and random paintings in one network and one run."""

from __future__ import annotations

import copy
import csv
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from stylenorm.checkpoint import load_network, load_style, read_tensors, save_network, save_style, write_tensors
from stylenorm.config import TrainConfig
from stylenorm.data import Batch, Pairs, RandomCrops, Share, collate, find_images, held_out
from stylenorm.device import (
    Group,
    can_compile,
    joined,
    loading_processes,
    machine_memory,
    out_of_memory,
    peak_flops,
    telling_memory,
)
from stylenorm.errors import ImageError, StylenormError
from stylenorm.generator import Generator, GeneratorConfig
from stylenorm.images import read_picture, to_image, to_tensor, write_picture
from stylenorm.metadata import pack, read_metadata
from stylenorm.perceptual import (
    CONTENT_LAYER,
    STYLE_LAYERS,
    VGGFeatures,
    content_loss,
    grams,
    resized_short_side,
    structure_loss,
    style_loss,
    style_statistics,
)
from stylenorm.style import Style, StyleEncoder


@dataclass(frozen=True)
class Progress:
    """One step's record. Losses are means over the batch; speed is since the start of this process.

    gpu: with the last step, the name of the GPU; peak_share: the part of its bfloat16 FLOP/s that was used, in the
    later half of the run, or None if its peak is not known.
    """

    step: int
    steps: int
    content: float
    style: float
    total: float
    learning_rate: float
    images_per_second: float
    seconds_left: float
    broken: tuple[str, ...] = ()
    gpu: str | None = None
    peak_share: float | None = None


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
            chosen = named >= 0
            if chosen.any():
                flat = flat.index_put((chosen.nonzero()[:, 0],), self.rows[named[chosen]], accumulate=True)
            return flat

    def forward(self, photos: Tensor, statistics: Tensor, named: Tensor) -> Tensor:
        flat = self.flat_styles(statistics, named)
        return self.generator(photos, Style.from_flat(flat, self.generator.config.channels))


@dataclass
class NamedStyles:
    """The named paintings: their Gram matrices {layer: (S, C, C)}, VGG statistics (S, D), names and provenance."""

    names: list[str]
    grams: dict[str, Tensor]
    statistics: Tensor
    provenance: list[dict]


def load_vgg(source: str | None, device: torch.device) -> VGGFeatures:
    """VGG-16's features from a safetensors file, from "torchvision", or (None) from the shipped weights."""
    if source == "torchvision":
        from stylenorm.compat import torchvision

        weights = torchvision().models.VGG16_Weights.IMAGENET1K_FEATURES
        vgg = VGGFeatures.from_state(weights.get_state_dict(progress=True))
    else:
        from stylenorm.catalog import vgg_file

        path = source or vgg_file()
        vgg = VGGFeatures.from_file(path)
    return vgg.to(device, memory_format=torch.channels_last)


def painting_tensor(path: str | Path, size: int) -> Tensor:
    """A painting as (1, 3, H, W) in [0, 1], its short side ``size`` px."""
    return resized_short_side(to_tensor(read_picture(path).rgb), size)


@torch.no_grad()
def describe(vgg: VGGFeatures, picture: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Gram matrices and style statistics of a picture (1, 3, H, W)."""
    features = vgg(picture)
    return grams(features), style_statistics(features)


def load_named(folder: str | Path, names: tuple[str, ...], size: int, vgg: VGGFeatures, device) -> NamedStyles:
    files = {p.stem: p for p in find_images(folder)}
    unknown = [n for n in names if n not in files]
    if unknown:
        raise StylenormError(f"{folder} has no painting named {unknown[0]!r}; it has {', '.join(files)}")
    chosen = list(names) or list(files)
    described = [describe(vgg, painting_tensor(files[n], size).to(device)) for n in chosen]
    known = _provenance(Path(folder) / "styles.json")
    return NamedStyles(
        names=chosen,
        grams={layer: torch.cat([g[layer] for g, _ in described]) for layer in STYLE_LAYERS},
        statistics=torch.cat([s for _, s in described]),
        provenance=[known.get(n, {}) | {"file": files[n].name, "style_size": size} for n in chosen],
    )


def _provenance(path: Path) -> dict[str, dict]:
    """styles.json: a list of objects with a name, or an object of objects. A folder need not have one."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        rows = values if isinstance(values, list) else [{"name": k} | v for k, v in values.items()]
        keys = ("title", "artist", "year", "artist_died", "licence", "source")
        return {row["name"]: {k: row[k] for k in keys if k in row} for row in rows}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise StylenormError(f"{path} is not a list of objects with a name, title, artist and year") from None


class Trainer:
    """A run, from its settings to its files. ``Trainer(config).run()``.

    group: the processes that train together, from `stylenorm.device.joined`. Each takes its share of every
    batch, and their gradients are averaged (torch's DistributedDataParallel); the first one writes the files.
    """

    def __init__(self, config: TrainConfig, resume: bool = False, group: Group = Group()) -> None:
        self.config, self.group = config, group
        _check_shares(config, group)
        self.device = group.device(config.device)
        self.out = Path(config.out)
        self.state_file = self.out / "resume.safetensors"
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StylenormError(f"{self.out} cannot be made a folder: {error.strerror}; give another --out") from None
        torch.manual_seed(config.seed)
        self.vgg = load_vgg(config.vgg, self.device)
        self._find_pictures()
        self.step = 0
        self.seen_before = 0
        self.model = self._new_model().to(self.device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        model, peaks = self.model, (config.learning_rate, config.encoder_learning_rate, config.style_learning_rate)
        parts = (list(model.generator.parameters()), list(model.encoder.parameters()), [model.rows])
        self.optimizer = torch.optim.Adam(
            [{"params": part, "peak": peak} for part, peak in zip(parts, peaks)],
            betas=(0.9, 0.99),
        )
        if resume:
            self._load_state()
        elif self.state_file.exists():
            raise StylenormError(f"{self.out} holds a run already; go on with --resume, or choose another --out")
        self.painter = self._painter()

    def _find_pictures(self) -> None:
        config = self.config
        cache = machine_memory() // 4 if config.cache is None else config.cache * 10**6
        photos, self.unseen = held_out(find_images(config.photos))
        self.photos = RandomCrops(photos, config.size, config.photo_scales, config.seed, cache)
        paintings = held_out(find_images(config.paintings))[0] if config.paintings else []
        cache -= self.photos.decoded.size
        self.paintings = (
            RandomCrops(paintings, config.painting_size, config.painting_scales, config.seed + 1, cache) if paintings else None
        )
        self.named = (
            load_named(config.styles, config.names, config.style_size, self.vgg, self.device)
            if config.styles
            else NamedStyles([], {}, torch.zeros(0, 1920, device=self.device), [])
        )
        self.pairs = Pairs(self.photos, len(self.named.names), self.paintings, config.named_share)

    def _painter(self) -> nn.Module:
        """The model as the training step calls it: compiled, and averaging its gradients over the processes."""
        if self.config.compile == "on" or (self.config.compile == "auto" and can_compile(self.device)):
            self.model.generator.compile()  # in place: names and values of the weights stay what they are
            self.vgg.compile()
        if self.group.size == 1:
            return self.model
        devices = [self.device] if self.device.type == "cuda" else None
        # A process whose share holds no named style has no gradient for the rows.
        return DistributedDataParallel(self.model, devices, find_unused_parameters=True)

    def _new_model(self) -> StyledModel:
        config = self.config
        shape = GeneratorConfig(config.widths, config.blocks, config.norm, config.num_groups)
        if not config.init:
            model = StyledModel(shape, len(self.named.names))
            self._standardize(model.encoder)
            return model
        network = load_network(config.init)
        model = StyledModel(network.generator.config, len(self.named.names))
        model.generator.load_state_dict(network.generator.state_dict())
        if network.encoder is None:
            self._standardize(model.encoder)
        else:
            model.encoder.load_state_dict(network.encoder.state_dict())
        earlier = network.about.get("training")
        self.seen_before = int(earlier.get("images", 0)) if isinstance(earlier, dict) else 0
        self._rows_from_files(model, network.hash)
        return model

    @torch.no_grad()
    def _rows_from_files(self, model: StyledModel, digest: str) -> None:
        """Styles that lie beside the network go on from where they were; others start from their prediction."""
        folder = Path(self.config.init).parent / "styles"
        for index, name in enumerate(self.named.names):
            if (folder / f"{name}.safetensors").exists():
                style = load_style(folder / f"{name}.safetensors", digest)
                predicted = model.encoder(self.named.statistics[index : index + 1].cpu())
                model.rows[index] = (style.flat() - predicted)[0]

    @torch.no_grad()
    def _standardize(self, encoder: StyleEncoder) -> None:
        """Mean and deviation of the statistics over up to 200 paintings and the named ones."""
        count = min(200, len(self.paintings.files)) if self.paintings else 0
        rows = [self.named.statistics]
        rows += [describe(self.vgg, self.paintings[i].pixels[None].to(self.device))[1] for i in range(count)]
        table = torch.cat(rows)
        encoder.mean.copy_(table.mean(0))
        encoder.std.copy_(table.std(0, correction=0).clamp_min(0.1))

    def learning_rate(self, step: int) -> float:
        """The schedule, as a factor from 0 to 1: a linear warm-up, a plateau, a cosine."""
        config = self.config
        start = config.decay_start * config.steps
        rise = min(1.0, (step + 1) / max(1, min(config.warmup, config.steps // 4)))
        if step < start:
            return rise
        return rise * 0.5 * (1 + math.cos(math.pi * (step - start) / max(1.0, config.steps - start)))

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Content, style and structure loss of each picture, (N,) all three."""
        photos = batch.photos.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        named = batch.named.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type != "mps"):
            with torch.no_grad():
                target = self.vgg(photos, [CONTENT_LAYER])[CONTENT_LAYER]
                goals, statistics = self._goals(batch, named)
            painted = self.painter(photos, statistics, named)
            features = self.vgg(painted)
            content = content_loss(features[CONTENT_LAYER], target)
            style = style_loss(grams(features), goals)
        return content, style, structure_loss(painted, photos)

    def _goals(self, batch: Batch, named: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Target Gram matrices and style statistics, a row a picture, from the table or the paintings."""
        is_named = named >= 0
        parts_grams, parts_statistics = [], []
        if is_named.any():
            index = named[is_named]
            parts_grams.append({layer: table[index] for layer, table in self.named.grams.items()})
            parts_statistics.append(self.named.statistics[index])
        if batch.paintings is not None:
            features = self.vgg(batch.paintings.to(self.device, memory_format=torch.channels_last))
            parts_grams.append(grams(features))
            parts_statistics.append(style_statistics(features))
        places = torch.cat([is_named.nonzero()[:, 0], (~is_named).nonzero()[:, 0]]).argsort()
        goals = {layer: torch.cat([g[layer] for g in parts_grams])[places] for layer in STYLE_LAYERS}
        return goals, torch.cat(parts_statistics)[places]

    def train_step(self, batch: Batch) -> tuple[float, float]:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self.learning_rate(self.step)
        content, style, structure = self.losses(batch)
        weighted = config.content_weight * content + config.style_weight * style + config.structure_weight * structure
        loss = weighted.mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        values = torch.stack([loss, norm, content.mean(), style.mean()]).detach()
        loss, norm, content, style = self.group.mean(values).tolist()  # the one place where the GPU is waited for
        self._require_finite("loss", loss, batch)
        self._require_finite("gradient", norm, batch)
        self.optimizer.step()
        self.step += 1
        self._follow()
        return content, style

    def _require_finite(self, what: str, value: float, batch: Batch) -> None:
        if math.isfinite(value):
            return
        styles = [f" with the style {self.named.names[k]}" if k >= 0 else "" for k in batch.named.tolist()]
        pictures = self.group.all([n + s for n, s in zip(batch.names, styles)])
        raise StylenormError(
            f"the {what} is not finite at step {self.step + 1}, at {'; '.join(pictures)}; "
            "go on from the last checkpoint with --resume and a smaller --learning-rate"
        )

    @torch.no_grad()
    def _follow(self) -> None:
        """Exponential moving average of the weights, quick at first; this is what is exported."""
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        ours, theirs = self.average.state_dict(), self.model.state_dict()
        for key, value in ours.items():
            value.lerp_(theirs[key], 1 - decay) if value.is_floating_point() else value.copy_(theirs[key])

    def batches(self) -> Iterator[Batch]:
        config = self.config
        group = self.group
        workers = loading_processes(self.device, group.size) if config.workers is None else config.workers
        loader = DataLoader(
            self.pairs,
            config.batch // group.size,
            sampler=Share(self.step * config.batch, config.steps * config.batch, config.batch, group.rank, group.size),
            collate_fn=collate,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
        )
        try:
            yield from loader
        except ImageError as error:  # a worker's has its traceback in it
            raise ImageError(str(error).strip().splitlines()[-1].rpartition("ImageError: ")[2]) from None

    def run(self, progress: Callable[[Progress], None] | None = None) -> Path:
        """Train to the end and return the network file. Leaves checkpoints, curve and sheets as it goes."""
        config, clock = self.config, Clock(self.step, self.config.steps)
        with _deterministic(config.deterministic == "on"), self._logs() as logs:
            for batch in self.batches():
                content, style = self._step_or_say_what_fits(batch)
                clock.tick()
                record = self._record(batch, content, style, clock)
                with _writing(self.out):
                    logs.write(record)
                if progress and self.group.first:
                    progress(record)
                with _writing(self.out):
                    self._leave_files(logs)
        with _writing(self.out):
            return self.export(self.out)

    def _record(self, batch: Batch, content: float, style: float, clock: "Clock") -> Progress:
        config, gpu = self.config, None
        if self.step == config.steps and self.device.type == "cuda" and self.group.first:
            gpu = torch.cuda.get_device_name(self.device)
        return Progress(
            step=self.step,
            steps=config.steps,
            content=content,
            style=style,
            total=config.content_weight * content + config.style_weight * style,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            images_per_second=clock.speed() * config.batch,
            seconds_left=(config.steps - self.step) / clock.speed(),
            broken=tuple(batch.broken),
            gpu=gpu,
            peak_share=self._peak_share(batch, clock.late_speed(), gpu) if gpu else None,
        )

    def _logs(self) -> "Logs":
        with _writing(self.out):
            return Logs(self.out if self.group.first else None, self.step, self.config.tensorboard)

    def _leave_files(self, logs: "Logs") -> None:
        if not self.group.first:
            return
        last = self.step == self.config.steps
        if last or self.step % self.config.checkpoint_every == 0:
            self.save_state()
        if last or self.step % self.config.sample_every == 0:
            self.export(self.out)
            logs.picture(self.sample(self.out), self.step)

    # ---- memory and speed ----------------------------------------------------------------------

    def _step_or_say_what_fits(self, batch: Batch) -> tuple[float, float]:
        try:
            return self.train_step(batch)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        config = self.config  # from here on the tensors of the failed step are free
        told = f"a batch of {config.batch} at {config.size} px needs more memory than there is"
        found = self._fitting(batch)
        if found is None:
            raise StylenormError(f"{told}, and so does one picture at 64 px; give smaller --widths, or another --device")
        raise StylenormError(f"{told}; --batch {found[0]} --size {found[1]} fits")

    def _fitting(self, batch: Batch) -> tuple[int, int] | None:
        """The first of halved batches, then of halved sizes, that this device holds; tried out, without a step."""
        self.painter = self.model  # the other processes take no part in this
        count, size = len(batch.names), self.config.size
        while count > 1 or size > 64:
            count, size = (count // 2, size) if count > 1 else (1, max(64, size // 2))
            self.optimizer.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            try:
                sum(self.losses(batch.part(count, size))).mean().backward()
                return count * self.group.size, size
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
        return None

    def flops(self, batch: Batch) -> int:
        """Floating-point operations of a step's losses and gradients on ``batch``; a product and its sum count as two."""
        painter, self.painter = self.painter, self.model
        try:
            with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
                sum(self.losses(batch)).mean().backward()
        finally:
            self.painter = painter
            self.optimizer.zero_grad(set_to_none=True)
        return counter.get_total_flops()

    def _peak_share(self, batch: Batch, steps_per_second: float, gpu: str) -> float | None:
        peak = peak_flops(gpu)
        try:
            return self.flops(batch) * steps_per_second / peak if peak else None
        except (MemoryError, RuntimeError) as error:  # uncompiled, a step may need more memory
            if not out_of_memory(error):
                raise
            return None

    # ---- files ---------------------------------------------------------------------------------

    @torch.no_grad()
    def export(self, folder: Path) -> Path:
        """Write the averaged network and its named styles into ``folder``; return the network file."""
        config, model = self.config, self.average
        training = {k: v for k, v in asdict(config).items() if k not in ("photos", "styles", "paintings", "out", "vgg", "init")}
        training |= {"step": self.step, "images": self.seen_before + self.step * config.batch, "torch": torch.__version__}
        path = Path(folder) / "network.safetensors"
        if not self.group.first:
            return path
        digest = save_network(path, model.generator, model.encoder, training=training, styles=self.named.names)
        for index, name in enumerate(self.named.names):
            save_style(path.parent / "styles" / f"{name}.safetensors", self._style(index, digest))
        return path

    @torch.no_grad()
    def _style(self, index: int, digest: str | None = None) -> Style:
        named = torch.tensor([index], device=self.device)
        flat = self.average.flat_styles(self.named.statistics[index : index + 1], named)
        channels = self.average.generator.config.channels
        return Style.from_flat(
            flat.float(), channels, name=self.named.names[index], provenance=self.named.provenance[index], network=digest
        )

    @torch.no_grad()
    def sample(self, folder: Path, photos: int = 3) -> Path:
        """A sheet of unseen photographs in every named style and two unseen paintings', and the loss curve."""
        from stylenorm.plots import loss_curve, sheet

        crops = RandomCrops(self.unseen or self.photos.files, self.config.size, (self.config.size,) * 2, 0)
        photos = min(photos, len(crops.files))
        pictures = torch.stack([crops[i].pixels for i in range(photos)]).to(self.device)
        flats = [self._style(i).flat() for i in range(len(self.named.names))]
        rows = [pictures]
        model = self.average
        if self.paintings:
            for i in range(2):
                painting = self.paintings[i].pixels[None].to(self.device)
                flats.append(model.encoder(describe(self.vgg, painting)[1]))
        for flat in flats:
            style = Style.from_flat(flat.expand(photos, -1, -1), model.generator.config.channels)
            rows.append(model.generator(pictures, style))
        labels = ["photograph", *self.named.names] + ["a painting"] * (len(rows) - 1 - len(self.named.names))
        tiles = [to_image(row[i]) for i in range(photos) for row in rows]
        path = Path(folder) / "samples.png"
        write_picture(sheet(tiles, labels * photos, columns=len(rows)), path)
        with _whole(Path(folder) / "loss.png") as temporary:
            loss_curve(Path(folder) / "loss.csv", temporary)
        return path

    def save_state(self) -> None:
        """Everything that a resumed run needs, in one atomic file."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
        values = pack("resume", step=self.step, seen_before=self.seen_before, config=asdict(self.config), names=self.named.names)
        write_tensors(self.state_file, tensors, values)

    def _load_state(self) -> None:
        values = read_metadata(self.state_file, "resume")
        if values["names"] != self.named.names:
            raise StylenormError(f"{self.state_file} was trained on other styles: {', '.join(values['names'])}")
        settings = json.loads(json.dumps(asdict(self.config)))
        for key in ("batch", "seed", "size", "named_share", "norm", "num_groups", "widths", "blocks"):
            before = values["config"].get(key, settings[key])
            if before != settings[key]:
                raise StylenormError(
                    f"the run in {self.out} was started with --{key.replace('_', '-')} {before}, not {settings[key]}; "
                    "give it again as it was"
                )
        tensors = read_tensors(self.state_file)
        try:
            for name, module in (("model.", self.model), ("average.", self.average)):
                module.load_state_dict({k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)})
        except RuntimeError:
            raise StylenormError(f"{self.state_file} belongs to a network of another shape") from None
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.step, self.seen_before = values["step"], values["seen_before"]


class Logs:
    """loss.csv, one row a step, and the same and the sample sheets for TensorBoard in the folder tensorboard/.

    On resuming, rows past the checkpoint are dropped. folder: None writes nothing. tensorboard: as in `TrainConfig`.
    """

    FIELDS = ("step", "content", "style", "total", "learning_rate", "images_per_second")

    def __init__(self, folder: Path | None, step: int, tensorboard: str = "off") -> None:
        self.file = self.board = None
        if folder is None:
            return
        self.board = _board(folder / "tensorboard", step, tensorboard)
        path, rows = folder / "loss.csv", []
        if step and path.exists():
            with open(path, newline="") as file:
                rows = [r for r in csv.DictReader(file) if (r.get("step") or "").isdigit() and int(r["step"]) <= step]
        with _whole(path) as temporary, open(temporary, "w", newline="") as file:
            table = csv.DictWriter(file, self.FIELDS)
            table.writeheader()
            table.writerows(rows)
        self.file = open(path, "a", newline="", buffering=1)  # a killed run leaves whole lines
        self.writer = csv.DictWriter(self.file, self.FIELDS)

    def write(self, record: Progress) -> None:
        if self.file:
            self.writer.writerow({k: f"{getattr(record, k):.6g}" for k in self.FIELDS} | {"step": record.step})
        if self.board:
            for key in self.FIELDS[1:]:
                self.board.add_scalar(key, getattr(record, key), record.step)

    def picture(self, path: Path, step: int) -> None:
        if self.board:
            with Image.open(path) as image:
                self.board.add_image("samples", np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def __enter__(self) -> "Logs":
        return self

    def __exit__(self, *_) -> None:
        for log in (self.file, self.board):
            if log:
                log.close()


def _board(folder: Path, step: int, wanted: str):
    """TensorBoard's writer, or None where it is off or, unless it is asked for, not installed."""
    if wanted == "off":
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        if wanted == "auto":
            return None
        raise StylenormError("TensorBoard is not installed; pip install tensorboard, or leave --tensorboard out") from None
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


class Clock:
    """Steps a second since step ``first``, and in the later half of the run, which knows of no warming up."""

    def __init__(self, first: int, last: int) -> None:
        self.steps, self.half = 0, max(1, (last - first) // 2)
        self.started = self.middle = time.monotonic()

    def tick(self) -> None:
        self.steps += 1
        if self.steps == self.half:
            self.middle = time.monotonic()

    def speed(self) -> float:
        return self.steps / (time.monotonic() - self.started)

    def late_speed(self) -> float:
        late = self.steps - self.half
        return late / (time.monotonic() - self.middle) if late > 0 else self.speed()


def _check_shares(config: TrainConfig, group: Group) -> None:
    """What cannot be trained by several processes as it would be by one."""
    if config.batch % group.size:
        more = -(-config.batch // group.size) * group.size
        raise StylenormError(f"a batch of {config.batch} cannot be shared evenly by {group.size} processes; give --batch {more}")
    if group.size > 1 and config.norm == "batch":
        raise StylenormError("--norm batch looks at the whole batch and trains in one process; choose another --norm, or leave torchrun out")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """A disk that is full, or gone, told in one sentence."""
    try:
        yield
    except OSError as error:
        raise StylenormError(f"{error.filename or folder} cannot be written: {error.strerror or error}") from None


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A name to write to; it becomes ``path`` when the block ends well, and goes away when it does not."""
    temporary = path.with_name(f".{path.name}")  # its suffix tells matplotlib the format
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """For as long as the block lasts, CUDA computes the same bits in every run."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def train(config: TrainConfig, resume: bool = False, progress: Callable[[Progress], None] | None = None) -> Path:
    """Train as ``config`` says and return the network file. Raises `StylenormError` in one sentence.

    Started by torchrun, it trains together with the other processes; ``progress`` is then called in the first alone.
    """
    with joined(config.device) as group:
        with telling_memory("give a smaller --style-size"):
            trainer = Trainer(config, resume, group)
        return trainer.run(progress)
