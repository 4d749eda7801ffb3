"""The settings of a training run. No torch: the command line takes its options and defaults from here."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from pathlib import Path

from stylenorm.errors import StylenormError, in_short

SEEDS = 2**63  # of pictures from noise: 0 and up to this
TYPES = {"str": (str, "a text"), "int": (Integral, "a whole number"), "float": (Real, "a number"), "tuple": ((tuple, list), "a tuple")}
LARGEST_RATE = 1  # a step moves each weight by about as much as this, and they are a tenth large
SWITCHES = {
    "compile": ("auto", "on", "off"),
    "deterministic": ("on", "off"),
    "optimizer": ("adam", "muon"),
    "tensorboard": ("auto", "on", "off"),
}


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run. Sizes are in pixels.

    photos, styles, paintings: folders, as text or paths. ``styles`` are named, and may hold a styles.json with title, artist
    and year; ``paintings`` teach the encoder. out: where weights, curve and sheets go. vgg: a safetensors
    file of VGG-16's features, "torchvision", or None for the shipped one. init: a network file to start from.
    names: which of ``styles`` to train, all of them if empty. grow: residual blocks that the network of ``init`` is to
    have at each resolution, no fewer than it has; empty for as many as it has; widen: channels, likewise. widths, blocks, norm and num_groups are
    those of a network that starts from nothing. encoder_width: hidden units of the style encoder, no fewer than that of
    ``init`` has; None for as many as it has, or for 384.
    steps: of the training. minutes: ends it by the clock instead, which begins once the network is compiled, and the schedule follows
    it, so that the same command makes the best of any machine; two such runs do not give the same weights.
    batch: photographs a step, of all processes together where torchrun starts several. photo_scales: the range of short sides
    that photographs are scaled to before a square of ``size`` is cut. None, for these as for ``optimizer``, ``widths``, ``blocks`` and
    ``encoder_width``, leaves it to the device: see `settled`.
    style_size: short side of a named painting; painting_size: side of the crops of random paintings.
    recolored: share of the random paintings that get other colours, so that the encoder does not learn them by heart.
    named_share: share of the pictures that are painted in a named style.
    content_weights: of single named styles, as ("scream:4",), times content_weight: for a style that paints faces over.
    optimizer: what moves the generator's weights, "adam" or "muon" (`stylenorm.muon`); the rest is always Adam's.
    warmup: steps until the full learning rate, which is reached after a quarter of the run in any case.
    decay_start: the learning rate is constant up to this share of the steps and falls to 0 on a cosine.
    workers: processes that load pictures; None is 0 on a CPU and up to 8 with CUDA. cache: megabytes of memory
    for decoded photographs and paintings, if they fit; None is a quarter of the machine's.
    compile: "on", "off" or "auto", which is on with CUDA, where it succeeds; it takes about a minute, and then a third to a half less time a step.
    checkpoint_every, sample_every: in steps, and with CUDA a minute at least.
    deterministic: "on" makes CUDA give the same bits in every run, more slowly; a CPU does so anyway. tensorboard: "on", "off" or "auto", which is on where it is installed.
    """

    photos: str | Path
    out: str | Path
    styles: str | Path | None = None
    paintings: str | Path | None = None
    vgg: str | Path | None = None
    init: str | Path | None = None
    names: tuple[str, ...] = ()
    steps: int = 6000
    minutes: float | None = None
    batch: int | None = None
    size: int | None = None
    photo_scales: tuple[int, int] | None = None
    style_size: int = 512
    painting_size: int = 256
    painting_scales: tuple[int, int] = (256, 352)
    recolored: float = 0.0
    named_share: float = 0.5
    learning_rate: float = 2e-3
    encoder_learning_rate: float = 1e-3
    style_learning_rate: float = 1e-2
    warmup: int = 50
    decay_start: float = 0.6
    content_weight: float = 1.0
    content_weights: tuple[str, ...] = ()
    style_weight: float = 10.0
    structure_weight: float = 1.0
    ema: float = 0.999
    clip: float = 10.0
    norm: str = "instance"
    num_groups: int = 8
    widths: tuple[int, ...] | None = None
    blocks: tuple[int, ...] | None = None
    grow: tuple[int, ...] = ()
    widen: tuple[int, ...] = ()
    encoder_width: int | None = None
    optimizer: str | None = None
    seed: int = 0
    device: str = "auto"
    workers: int | None = None
    cache: int | None = None
    compile: str = "auto"
    deterministic: str = "off"
    tensorboard: str = "auto"
    checkpoint_every: int = 100
    sample_every: int = 250

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, str(value) if name == "device" else _written(value))
        for name in ("names", "content_weights"):
            if isinstance(getattr(self, name), str):  # a single one, which would be read letter by letter
                object.__setattr__(self, name, (getattr(self, name),))
        check_types(self)
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise StylenormError(f"{name} must be a finite number, not {value}")
            if name.endswith(("_rate", "_weight")) and value < 0:  # which would lead away from what it weighs
                raise StylenormError(f"{name} must be at least 0, not {value}")
            if name.endswith("_rate") and value > LARGEST_RATE:
                usual = type(self).__dataclass_fields__[name].default
                raise StylenormError(f"{name} must be at most {LARGEST_RATE}, not {value:g}: {usual:g} is usual, and with much more nothing is learned")
        for name in ("steps", "batch", "checkpoint_every", "sample_every"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise StylenormError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("size", "painting_size", "style_size"):
            if getattr(self, name) is not None and getattr(self, name) < 64:
                raise StylenormError(f"{name} must be at least 64 px, not {getattr(self, name)}")
        for name in ("photo_scales", "painting_scales"):
            if min(getattr(self, name) or (1,)) < 1:  # less than the square's side is as much as that
                raise StylenormError(f"{name} must be at least 1 px, not {min(getattr(self, name))}")
        for name in ("minutes", "clip"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise StylenormError(f"{name} must be above 0, not {getattr(self, name)}")
        if not -(2**63) <= self.seed < 2**63:
            raise StylenormError(f"seed must lie between -2^63 and 2^63 - 1, not at {self.seed}")
        if self.encoder_width is not None and self.encoder_width < 1:
            raise StylenormError(f"encoder_width must be at least 1, not {self.encoder_width}")
        for name, what in (("grow", "blocks"), ("widen", "widths")):
            if getattr(self, name) and not self.init:
                raise StylenormError(f"{name} makes the network of init larger; without init, give {what}")
        for name in ("named_share", "recolored", "decay_start", "ema"):
            if not 0 <= getattr(self, name) <= 1:
                raise StylenormError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        for text in self.content_weights:
            name, _ = weight_of(text)
            if self.names and name not in self.names:
                raise StylenormError(f"content_weights names {name!r}, which is not among the names to train")
        for name in ("workers", "cache", "warmup"):
            if (getattr(self, name) or 0) < 0:
                raise StylenormError(f"{name} must be at least 0, not {getattr(self, name)}")
        for name, choices in SWITCHES.items():
            if getattr(self, name) not in choices and (name, getattr(self, name)) != ("optimizer", None):
                raise StylenormError(f"{name} must be {' or '.join(choices)}, not {getattr(self, name)!r}")


STEP_BYTES = 3_000  # of a GPU's memory that a step takes a pixel: what is kept for the way back is half of it, VGG-16's maps in bfloat16 above all
GPU_BYTES = 1_500_000_000  # that it takes beside them: weights, what their optimizer keeps, CUDA itself
LARGEST_BATCH = 32
USUAL = {  # on a CPU, where it is None
    "batch": 4, "size": 256, "photo_scales": (272, 512), "optimizer": "adam", "widths": (24, 48, 96, 160), "blocks": (0, 1, 2, 4), "encoder_width": None,
}  # fmt: skip
LARGE = {"widths": (24, 64, 128, 192), "blocks": (0, 2, 4, 6), "encoder_width": 1024}  # the shipped network's


def settled(config: TrainConfig, gpu: int | None = None, processes: int = 1) -> TrainConfig:
    """``config`` with what it leaves to the device: ``gpu`` is the memory in bytes of each CUDA device, of one a process, None without.

    A CPU takes 4 squares of 256 px a step, Adam, and from nothing a network of 2.6 million weights. CUDA takes squares of 384 px, Muon, a
    network as large as the shipped one, and as many squares a step as fit into four fifths of its memory: 32 of them, or 16, 8, ...
    """
    usual = USUAL
    if gpu is not None:
        size = config.size or 384
        fit = (0.8 * gpu - GPU_BYTES) / (STEP_BYTES * size**2)
        each = 2 ** int(math.log2(max(1, min(fit, LARGEST_BATCH / processes))))
        usual = USUAL | {"batch": each * processes, "size": size, "photo_scales": (size, size + 176), "optimizer": "muon"}
        usual |= {} if config.init else LARGE
    return replace(config, **{name: value for name, value in usual.items() if getattr(config, name) is None})


def need_config(config, kind: type) -> None:
    """Raise a `StylenormError` unless ``config`` is one of ``kind``: a dict of settings, say, has been checked by nobody."""
    if not isinstance(config, kind):
        raise StylenormError(f"the settings are a {kind.__name__}, which {in_short(config)} is not")


def check_types(config) -> None:
    """Raise a `StylenormError` where a setting that a dataclass declares as a text, a number, or a tuple of them, is none."""
    for declared in fields(config):
        value, (kind, *_) = getattr(config, declared.name), declared.type.replace("[", " ").split()
        if kind not in TYPES or (value is None and declared.type.endswith("None")):
            continue
        wanted, told = TYPES[kind]
        no_path = "Path" in declared.type and "\0" in str(value)
        if (not isinstance(value, wanted) or no_path) and declared.name != "device":  # which may be torch's
            told = "a path" if "Path" in declared.type else told
            raise StylenormError(f"{declared.name} must be {told}, not {in_short(value)}")
        whole = not declared.type.startswith("tuple[int") or all(isinstance(v, Integral) for v in value)
        pair = declared.type.startswith("tuple[int, int]")
        if not whole or (pair and len(value) != 2):
            count = "two " if pair else ""
            raise StylenormError(f"{declared.name} must be {count}whole numbers, not {value!r}")


def _written(value):
    """``value`` as a checkpoint's JSON holds it: a path as text, numpy's numbers as Python's, a tuple's parts likewise."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (tuple, list)):
        return tuple(map(_written, value))
    return value.item() if hasattr(value, "item") else value


def weight_of(text: str) -> tuple[str, float]:
    """A name and its weight, from "NAME:NUMBER"."""
    name, _, number = text.rpartition(":")
    try:
        weight = float(number)
    except ValueError:
        weight = -1.0
    if not name or not 0 <= weight < float("inf"):
        raise StylenormError(f"a style's content weight is given as NAME:NUMBER, such as scream:4, not as {text!r}")
    return name, weight


@dataclass(frozen=True)
class GenerateConfig(TrainConfig):
    """Settings of a training run from noise: those of `TrainConfig`, but for what has to do with photographs.

    init: the stylizing network whose styles and encoder the result takes, and to start from; None is the shipped one.
    generator: the result of an earlier run, to start from instead; it takes the styles of the same network.
    names: by default those of ``styles`` that the network has a style file of. batch: pictures a step, in pairs of
    one style and two seeds, hence even. diversity_weight: of the term that keeps two seeds apart; the logs have it
    where they else have the content's.
    slope, contrast, color: of `stylenorm.noise.Noise`.
    """

    photos: str | Path = field(default="", kw_only=True)
    steps: int = 1200
    batch: int = 4
    size: int = 256
    photo_scales: tuple[int, int] = (272, 512)
    optimizer: str = "adam"
    compile: str = "off"
    decay_start: float = 0.3
    generator: str | Path | None = None
    diversity_weight: float = 0.5
    slope: float = 0.5
    contrast: float = 0.2
    color: float = 0.3
    checkpoint_every: int = 50

    def __post_init__(self) -> None:
        object.__setattr__(self, "content_weight", self.diversity_weight)
        object.__setattr__(self, "structure_weight", 0.0)
        super().__post_init__()
        if self.batch % 2:
            raise StylenormError(f"batch must be even, since pictures come in pairs of one style, not {self.batch}")
        if not (0 <= self.contrast <= 1 and 0 <= self.color <= 1 and -2 <= self.slope <= 2):
            raise StylenormError("contrast and color must lie between 0 and 1, and slope between -2 and 2")
        if not self.contrast:
            raise StylenormError("contrast must be above 0: noise of a single colour is nothing to learn on")
