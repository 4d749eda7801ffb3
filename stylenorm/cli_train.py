"""The verbs that train: a network, a style, and the pixels themselves."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import MISSING, fields
from importlib import import_module
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from unicodedata import normalize

import typer

from stylenorm.catalog import check_name, network_file, user_styles_folder
from stylenorm.cli_parts import AsJson, Device, Weights, as_word, check_file, complain, do, path, told, verbs
from stylenorm.compat import ctrl_c_later
from stylenorm.config import SWITCHES, USUAL, TrainConfig
from stylenorm.drafts import reach, remove, write_draft
from stylenorm.errors import StylenormError, counted
from stylenorm.jobs import identity, make_folder, plan_one
from stylenorm.metadata import read_metadata
from stylenorm.progress import duration, watching

app = verbs()

# ---- train -------------------------------------------------------------------------------------

FILES, RUN, LEARNING, NETWORK, PICTURES = "Files", "Run", "Learning", "Network", "Pictures"

# Where --help shows a field of TrainConfig, and what it says there. Names, types and defaults are the fields' own.
SETTINGS = {
    "photos": (FILES, "Folder of photographs to learn on."),
    "out": (FILES, "Folder for weights, checkpoint, loss curve and sample sheet."),
    "styles": (FILES, "Folder of paintings to name styles after; a styles.json may give title, artist and year."),
    "paintings": (FILES, "Folder of paintings that teach the network to take any painting."),
    "init": (FILES, "Network file to start from."),
    "vgg": (FILES, "VGG-16 features: a safetensors file, or torchvision; else the shipped ones."),
    "names": (FILES, "Which of --styles to train, with commas between; else all of them."),
    "steps": (RUN, "Steps to train."),
    "minutes": (RUN, "Train for so long instead, not counting the time to compile; the learning rate follows the clock."),
    "batch": (RUN, "Photographs a step, of all GPUs together, else 4 on a CPU and up to 32 on a GPU, as its memory allows."),
    "device": (RUN, "What to compute on."),
    "workers": (RUN, "Processes that load pictures, else none on a CPU and up to 8 for a GPU."),
    "cache": (RUN, "Most memory for decoded pictures, MB, else a quarter of the machine's. 0 decodes them every time."),
    "compile": (RUN, "Compile the network; auto does on CUDA, where it can."),
    "deterministic": (RUN, "The same bits in every run on a GPU, at some cost. On a CPU they are so anyway."),
    "tensorboard": (RUN, "Logs for TensorBoard, in --out; auto is on where it is installed."),
    "seed": (RUN, "Sets the order of pictures and the first weights."),
    "checkpoint_every": (RUN, "Steps between checkpoints that --resume goes on from; on a GPU a minute at least."),
    "sample_every": (RUN, "Steps between exported weights, with sample sheet and loss curve; on a GPU a minute at least."),
    "optimizer": (LEARNING, "What moves the generator's weights, else Adam on a CPU and Muon on a GPU."),
    "learning_rate": (LEARNING, "For the generator."),
    "encoder_learning_rate": (LEARNING, "For the style encoder."),
    "style_learning_rate": (LEARNING, "For the named styles."),
    "warmup": (LEARNING, "Steps until the full learning rate, a quarter of --steps or --minutes at most."),
    "decay_start": (LEARNING, "Share of the steps after which it falls."),
    "content_weight": (LEARNING, "Weight of the photograph's content in the loss."),
    "content_weights": (LEARNING, "The same for single styles, times the other: NAME:NUMBER,..."),
    "style_weight": (LEARNING, "Weight of the painting's style in the loss."),
    "structure_weight": (LEARNING, "Weight of the photograph's light and dark in the loss."),
    "recolored": (PICTURES, "Share of these squares that get other colours, so that few paintings teach more."),
    "named_share": (LEARNING, "Share of pictures in a named style; the rest are in any painting's."),
    "ema": (LEARNING, "Decay of the averaged weights, which are the ones exported."),
    "clip": (LEARNING, "Largest norm of the gradient."),
    "norm": (NETWORK, "Kind of normalization."),
    "num_groups": (NETWORK, "Groups of the group kind."),
    "widths": (NETWORK, "Channels at 1/2, 1/4, 1/8, ... of the resolution, else 24,48,96,160 on a CPU and, on a GPU, the shipped network's."),
    "blocks": (NETWORK, "Residual blocks at each of them, else 0,1,2,4 on a CPU and, on a GPU, the shipped network's."),
    "grow": (NETWORK, "Residual blocks at each of them that the network of --init is to have; no fewer than it has."),
    "widen": (NETWORK, "Channels at each of them that the network of --init is to have; no fewer than it has."),
    "encoder_width": (NETWORK, "Hidden units of the style encoder, no fewer than the network of --init has; else as many, or 384 on a CPU and 1024 on a GPU."),
    "size": (PICTURES, "Side of the squares cut from photographs, px, else 256 on a CPU and 384 on a GPU."),
    "photo_scales": (PICTURES, "Shortest and longest short side before cutting, px, else 272,512 on a CPU, and on a GPU --size and 176 more."),
    "style_size": (PICTURES, "Short side of a named painting, px."),
    "painting_size": (PICTURES, "Side of the squares cut from other paintings, px."),
    "painting_scales": (PICTURES, "Shortest and longest short side before cutting, px."),
}
CHOICES = {"device": Literal["auto", "cpu", "cuda", "mps"], "norm": Literal["batch", "layer", "instance", "group"]}
# What a network of --init has already, and the option that makes it larger.
LARGER = {"widths": "widen", "blocks": "grow", "norm": None, "num_groups": None}
# What a field's values are written as: an empty path is told of, and Path("") is the folder that one is in.
WRITTEN = {str | Path: str} | dict.fromkeys((str | Path | None, tuple[int, int] | None, tuple[int, ...] | None), str | None)
CHOICES |= {name: Literal[choices] for name, choices in SWITCHES.items()}


def with_settings(config: type, texts: Mapping[str, tuple[str, str]], hidden: Sequence[str] = ()) -> Callable:
    """Give a verb an option for each field of ``config`` but the hidden ones, in place of its ``**settings``."""

    def decorated(verb: Callable) -> Callable:
        types = get_type_hints(config)
        own = [p for p in signature(verb, eval_str=True).parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        shown = [f for f in fields(config) if f.name not in hidden]
        parameters = [setting(f.name, types[f.name], f.default, *texts.get(f.name, (RUN, None))) for f in shown] + own
        verb.__signature__ = Signature(parameters)
        verb.__annotations__ = {p.name: p.annotation for p in parameters}
        return verb

    return decorated


def setting(name: str, type_: Any, default: Any, panel: str, help_: str | None) -> Parameter:
    type_ = WRITTEN.get(type_, type_)
    if get_origin(type_) is tuple:
        type_, default = str, ",".join(map(str, default))
    option = typer.Option(f"--{name.replace('_', '-')}", help=help_, rich_help_panel=panel, show_default=default != "")
    default = Parameter.empty if default is MISSING else default
    type_ = CHOICES.get(name, type_)
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=Annotated[type_ | None if default is None else type_, option], default=default)


def parsed(settings: dict[str, Any], config: type = TrainConfig) -> Any:
    """A ``config`` of the settings, with the comma-separated ones taken apart."""
    for name, type_ in get_type_hints(config).items():
        type_ = next((t for t in (type_, *get_args(type_)) if get_origin(t) is tuple), None)
        if type_ and settings.get(name) is not None:
            kinds, text = get_args(type_), settings[name]
            parts = [part.strip() for part in text.split(",") if part.strip()]
            try:
                settings[name] = tuple(map(kinds[0], parts))
            except ValueError:
                parts = []
            if (kinds[-1] is not Ellipsis and len(parts) != len(kinds)) or (text and not parts):
                example = ",".join(map(str, config.__dataclass_fields__[name].default or USUAL.get(name, ()))) or "a,b"
                raise StylenormError(f"--{name.replace('_', '-')} cannot be {text!r}; put commas between, as in {example}")
    return config(**settings)


@app.command(
    epilog="""\b
Examples:
  stylenorm train --photos photos/ --styles paintings/ --out mine/
  stylenorm train --photos photos/ --styles paintings/ --out mine/ --resume
  stylenorm train --photos photos/ --paintings museum/ --norm group --out g/
  stylenorm stylize photo.jpg --weights mine/ --style NAME -o painted.jpg
"""
)
@with_settings(TrainConfig, SETTINGS)
def train(
    *,
    context: typer.Context,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.", rich_help_panel=FILES)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a step.", rich_help_panel=RUN)] = False,
    **settings: Any,
) -> None:
    """Train a network: named styles, any painting, or both.

    Stop it with Ctrl-C, or in any other way; the same command with --resume
    goes on from the last checkpoint. On several GPUs of one machine:
    torchrun --nproc-per-node=2 -m stylenorm train ...
    """
    from_training = "stylenorm.training", "train"
    shape = [name for name in LARGER if context.get_parameter_source(name).name == "COMMANDLINE"]
    train_with(TrainConfig, settings, from_training, resume, as_json, f"stylenorm stylize --weights {as_word(settings['out'])}", shape)


def train_with(
    kind: type, settings: dict[str, Any], function: tuple[str, str], resume: bool, as_json: bool, usage: str,
    shape: Sequence[str] = (),
) -> None:
    """Run the training ``function`` (module, name) with a config of ``kind``, and tell how it ended and what to do next.

    shape: which of `LARGER` were asked for, be it by their default.
    """
    try:
        if empty := [name for name in ("photos", "styles", "paintings", "out", "init", "vgg", "generator") if settings.get(name) == ""]:
            what = "file" if empty[0] in ("init", "vgg", "generator") else "folder"  # it would be the one that one is in
            raise StylenormError(f"--{empty[0]} is empty; give a {what}")
        config = parsed(settings, kind)
        check_inputs(config, resume)
        check_shape(config, shape)
        network, last = watched(config, function, resume, as_json)
    except StylenormError:
        if speaks():
            raise
        raise typer.Exit(2) from None  # the first process tells
    if not speaks():
        raise typer.Exit(130 if network is None else 0)
    if network is None:
        saved = Path(config.out, "resume.safetensors").exists()
        complain(
            f"stopped; {'the same command with --resume goes on from the last checkpoint' if saved else 'there was no checkpoint yet'}"
        )
        raise typer.Exit(130)
    if as_json:
        return print(json.dumps({"network": str(network)}))
    if getattr(last, "gpu", None):
        print(speed(last))
    result = f"wrote {network}" if last or not resume else done_already(config, network)
    print(f"{result}; use it with: {usage}")
    if not (config.paintings or config.init):
        print("it has learned its named styles alone, at full strength; any painting as the style, and strengths in between, take --paintings")


def done_already(config: TrainConfig, network: Path) -> str:
    """What is said of a run that was at its end when it was to go on."""
    steps = read_metadata(network, "network")["about"]["training"]["step"]
    more = "--steps" if config.minutes is None else "--minutes"
    return f"the run in {config.out} is done already, after {counted(steps, 'step')}, and goes on with more {more} only"


def watched(config: TrainConfig, function: tuple[str, str], resume: bool, as_json: bool) -> tuple[Path | None, Any]:
    """Run the training before the eyes of whoever watches: the network file, None if stopped, and the last step's record."""
    last = None
    with watching(as_json) if speaks() else nullcontext() as watch:

        def note(record) -> None:
            nonlocal last
            last = record
            watch(record)

        try:
            with ctrl_c_later():  # of one in the midst of it, torch makes a RecursionError, or nothing, and hours of training would follow
                run = getattr(import_module(function[0]), function[1])
            return run(config, resume, note if watch else None), last
        except KeyboardInterrupt:
            return None, last


def speaks() -> bool:
    """False in the processes that torchrun started beside the first one, which speaks for all."""
    rank, size = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    beside = rank.isdecimal() and size.isdecimal() and 0 < int(rank) < int(size)
    return not (beside and os.environ.get("MASTER_ADDR"))


def speed(record) -> str:
    share = "an unknown share" if record.peak_share is None else f"{record.peak_share:.0%}"
    return f"{record.images_per_second:.1f} images/s; {share} of the peak of {record.gpu} in bfloat16"


def check_inputs(config: TrainConfig, resume: bool) -> None:
    """What can be refused before torch is there."""
    for name in ("photos", "styles", "paintings"):
        folder = getattr(config, name)
        if folder and not Path(folder).is_dir():
            reach(folder)
            raise StylenormError(f"--{name} {folder} is not a folder; give a folder of pictures")
    for name in ("init", "vgg", "generator"):
        file = getattr(config, name, None)
        if file and file != "torchvision" and not Path(file).is_file():
            reach(file)
            told = "is a folder; give the file in it" if Path(file).is_dir() else "does not exist; give a safetensors file"
            raise StylenormError(f"--{name} {file} {told}")
    if not config.styles and not config.paintings:
        raise StylenormError("give --styles, paintings to name styles after, or --paintings, to learn any painting, or both")
    if Path(config.out).exists() and not Path(config.out).is_dir():
        raise StylenormError(f"--out {config.out} is a file; give a folder")
    if resume and not Path(config.out, "resume.safetensors").is_file():
        raise StylenormError(f"{config.out} holds no run to resume; leave --resume out to start one")


def check_shape(config: TrainConfig, names: Sequence[str]) -> None:
    """Refuse a shape of the network that is not that of --init, which it keeps."""
    own = read_metadata(config.init, "network").get("config") if config.init and names else None
    for name in names if isinstance(own, dict) else ():  # else what is wrong with it is told when it is read
        has, wanted = (",".join(map(str, v)) if isinstance(v, (list, tuple)) else v for v in (own.get(name), getattr(config, name)))
        if name in own and has != wanted:
            option = f"--{name.replace('_', '-')}"
            more = f", or make it larger with --{LARGER[name]}" if LARGER[name] else ""
            raise StylenormError(f"{config.init} has {option} {has}, not {wanted}; leave {option} out{more}")


# ---- train-style, optimize ---------------------------------------------------------------------

STYLE_SIZE = 2**15  # bytes, of which a style of the shipped network has half


@app.command(
    name="train-style",
    epilog="""\b
Examples:
  stylenorm train-style my-style painting.jpg
  stylenorm train-style mine a.jpg b.jpg --artist "Ada Painter" --year 1901
  stylenorm stylize photo.jpg --style my-style -o painted.jpg
""",
)
def train_style(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the style.")],
    paintings: Annotated[list[Path], typer.Argument(metavar="PAINTING...", help="A picture of the painting, or several of one style.")],
    photos: Annotated[Path | None, typer.Option(parser=path, help="Folder of photographs to cut 32 squares from, to learn on; else the few that come along.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps to train; without --minutes either, 250, or as many as 4.5 minutes allow.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Train for so long, whatever the steps.")] = None,
    style_size: Annotated[int, typer.Option(min=64, max=2048, metavar="PX", help="Shorter side that the paintings are read at.")] = 512,
    title: Annotated[str | None, typer.Option(help="The painting's, kept in the style file.")] = None,
    artist: Annotated[str | None, typer.Option(help="The painter's name, kept in the style file.")] = None,
    year: Annotated[int | None, typer.Option(help="The painting's, kept in the style file.")] = None,
    licence: Annotated[str | None, typer.Option(help="The painting's, kept in the style file.")] = None,
    folder: Annotated[Path | None, typer.Option(parser=path, help="Where the style file goes, else your own styles.")] = None,
    device: Device = "auto",
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Train a new named style in minutes. The network stays as it is; the style is usable at once."""
    network_file(weights)
    name = normalize("NFC", name)  # as the names of files come from a Mac, it has its accents apart
    for path in paintings:
        check_file(path, "painting")
    if photos and not photos.is_dir():
        raise StylenormError(f"--photos {photos} is not a folder; give a folder of pictures")
    check_name(name, weights, folder or user_styles_folder())
    check_writable(folder or user_styles_folder())
    with ctrl_c_later():  # as in `watched`
        from stylenorm.new_style import NewStyleConfig
        from stylenorm.new_style import train_style as run

    config = NewStyleConfig(steps=steps, minutes=minutes, style_size=style_size, device=device)
    about = {"title": title, "artist": artist, "year": year, "licence": licence}
    about = {k: v for k, v in about.items() if v is not None}
    last = -math.inf

    def tell(record) -> None:
        nonlocal last
        if time.monotonic() - last > 5 and sys.stderr.isatty():
            last = time.monotonic()
            loss = f"loss {record.total:.2f} (content {record.content:.2f}, style {record.style:.3f})"
            print(f"step {record.step}  {loss}  {duration(record.seconds_left)} left", file=sys.stderr)

    try:
        file = run(name, paintings, photos=photos, weights=weights, folder=folder, config=config, about=about, progress=tell)
    except KeyboardInterrupt:
        complain("stopped; nothing was kept")
        raise typer.Exit(130) from None
    searched = {identity(place) for place in (user_styles_folder(), network_file(weights).parent / "styles")}
    usage = f"use it with: --style {as_word(name)}"
    if identity(file.parent) not in searched:
        usage = f"add it to your own with: stylenorm styles add {as_word(file)}"
    usage += f" --weights {as_word(weights)}" if weights else ""
    print(json.dumps({"name": name, "file": str(file)}) if as_json else f"wrote {file}; {usage}")


def check_writable(folder: Path) -> None:
    """Refuse a folder that no style can be written into, its disk being full, say, before minutes of work for it; what is not there yet is made."""
    missing = []
    try:
        missing += [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        remove(write_draft(folder, bytes(STYLE_SIZE)))
    except OSError as error:
        raise StylenormError(f"no style can be written to {folder} ({error.strerror or error}); give another --folder") from None
    finally:  # a training that is stopped leaves nothing
        with suppress(OSError):
            for path in missing:
                path.rmdir()


@app.command(
    epilog="""\b
Examples:
  stylenorm optimize photo.jpg painting.jpg -o painted.jpg
  stylenorm optimize photo.jpg art.jpg --steps 500 --method lbfgs -o best.png
  stylenorm optimize photo.jpg art.jpg --layers relu1_1,relu3_1 -o o.png
"""
)
def optimize(
    photo: Annotated[str, typer.Argument(metavar="PHOTO", help="A photograph; - is standard input.")],
    painting: Annotated[Path, typer.Argument(metavar="PAINTING", help="A picture of the painting.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="OUT", help="A picture file; - is standard output.")],
    size: Annotated[int, typer.Option(min=64, max=4096, metavar="PX", help="Longer side of the result.")] = 512,
    style_size: Annotated[int, typer.Option(min=64, max=4096, metavar="PX", help="Shorter side of the painting.")] = 512,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the descent.")] = 200,
    method: Annotated[Literal["adam", "lbfgs"], typer.Option(help="How to descend.")] = "adam",
    style_weight: Annotated[float, typer.Option(min=0, help="Weight of the painting's style, against 1 for the content.")] = 10.0,
    layers: Annotated[
        str, typer.Option("--layers", "--style-layers", metavar="NAME,...", help="VGG-16's layers that are compared for the style.")
    ] = "relu1_2,relu2_2,relu3_3,relu4_3",
    content_layer: Annotated[str, typer.Option(metavar="NAME", help="The layer that is compared for the content.")] = "relu3_3",
    vgg: Annotated[
        Path | None, typer.Option(help="VGG-16 features: a safetensors file, else the shipped ones, which end at relu4_3.")
    ] = None,
    device: Device = "auto",
    weights: Weights = None,
) -> None:
    """The slow, best version: move the pixels themselves (Gatys et al. 2016). Takes minutes."""
    job = plan_one(photo, output, [painting])
    check_file(painting, "painting")
    if weights:  # as in score
        network_file(weights)
    if vgg and not vgg.is_file():
        reach(vgg)
        raise StylenormError(f"--vgg {vgg} does not exist; give a safetensors file")
    make_folder([job])
    last = -math.inf

    def tell(step: int, loss: float) -> None:
        nonlocal last
        if time.monotonic() - last > 5 and sys.stderr.isatty():
            last = time.monotonic()
            print(f"step {step}/{steps}  loss {loss:.2f}", file=sys.stderr)

    with redirect_stdout(sys.stderr) if job.target is None else nullcontext():
        with ctrl_c_later():  # as in `watched`
            from stylenorm.optimizing import OptimizeConfig, optimize_file

        names = tuple(name.strip() for name in layers.split(",") if name.strip())
        config = OptimizeConfig(steps, method, style_weight=style_weight, content_layer=content_layer, style_layers=names)
        options = {"size": size, "style_size": style_size, "config": config, "device": device, "weights": weights, "vgg": vgg}
        row = do(job, lambda picture: optimize_file(picture, painting, progress=tell, **options))
    if "error" in row:
        complain(row["error"])
        raise typer.Exit(1)
    if job.target is not None:
        print(told(row))
