"""The verbs that train: a network, a style, and the pixels themselves."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from dataclasses import MISSING, fields
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from stylenorm.catalog import network_file
from stylenorm.cli_parts import AsJson, Device, Weights, complain, do, told, verbs
from stylenorm.config import TrainConfig
from stylenorm.errors import StylenormError
from stylenorm.jobs import make_folder, plan
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
    "names": (FILES, "Which of --styles to train, else all of them."),
    "steps": (RUN, "Steps to train."),
    "batch": (RUN, "Photographs a step."),
    "device": (RUN, "What to compute on."),
    "workers": (RUN, "Processes that load pictures."),
    "seed": (RUN, "Sets the order of pictures and the first weights."),
    "checkpoint_every": (RUN, "Steps between checkpoints that --resume goes on from."),
    "sample_every": (RUN, "Steps between exported weights, with sample sheet and loss curve."),
    "learning_rate": (LEARNING, "Adam's, for the generator."),
    "encoder_learning_rate": (LEARNING, "For the style encoder."),
    "style_learning_rate": (LEARNING, "For the named styles."),
    "warmup": (LEARNING, "Steps until the full learning rate."),
    "decay_start": (LEARNING, "Share of the steps after which it falls."),
    "content_weight": (LEARNING, "Weight of the photograph's content in the loss."),
    "style_weight": (LEARNING, "Weight of the painting's style in the loss."),
    "structure_weight": (LEARNING, "Weight of the photograph's light and dark in the loss."),
    "named_share": (LEARNING, "Share of pictures in a named style; the rest are in any painting's."),
    "ema": (LEARNING, "Decay of the averaged weights, which are the ones exported."),
    "clip": (LEARNING, "Largest norm of the gradient."),
    "norm": (NETWORK, "Kind of normalization."),
    "num_groups": (NETWORK, "Groups of the group kind."),
    "widths": (NETWORK, "Channels at 1/2, 1/4, 1/8, ... of the resolution."),
    "blocks": (NETWORK, "Residual blocks at each of them."),
    "size": (PICTURES, "Side of the squares cut from photographs, px."),
    "photo_scales": (PICTURES, "Shortest and longest short side before cutting, px."),
    "style_size": (PICTURES, "Short side of a named painting, px."),
    "painting_size": (PICTURES, "Side of the squares cut from other paintings, px."),
    "painting_scales": (PICTURES, "Shortest and longest short side before cutting, px."),
}
CHOICES = {"device": Literal["auto", "cpu", "cuda", "mps"], "norm": Literal["batch", "layer", "instance", "group"]}


def with_settings(verb: Callable) -> Callable:
    """Give ``verb`` an option for each field of `TrainConfig` in place of its ``**settings``."""
    types = get_type_hints(TrainConfig)
    own = [p for p in signature(verb, eval_str=True).parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
    parameters = [setting(f.name, types[f.name], f.default) for f in fields(TrainConfig)] + own
    verb.__signature__ = Signature(parameters)
    verb.__annotations__ = {p.name: p.annotation for p in parameters}
    return verb


def setting(name: str, type_: Any, default: Any) -> Parameter:
    panel, help_ = SETTINGS.get(name, (RUN, None))
    if get_origin(type_) is tuple:
        type_, default = str, ",".join(map(str, default))
    option = typer.Option(f"--{name.replace('_', '-')}", help=help_, rich_help_panel=panel, show_default=default != "")
    default = Parameter.empty if default is MISSING else default
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=Annotated[CHOICES.get(name, type_), option], default=default)


def parsed(settings: dict[str, Any]) -> TrainConfig:
    """The settings with their comma-separated ones taken apart."""
    for name, type_ in get_type_hints(TrainConfig).items():
        if get_origin(type_) is tuple:
            kinds, text = get_args(type_), settings[name]
            parts = [part.strip() for part in text.split(",") if part.strip()]
            try:
                settings[name] = tuple(map(kinds[0], parts))
            except ValueError:
                parts = []
            if (kinds[-1] is not Ellipsis and len(parts) != len(kinds)) or (text and not parts):
                example = ",".join(map(str, TrainConfig.__dataclass_fields__[name].default)) or "a,b"
                raise StylenormError(f"--{name.replace('_', '-')} cannot be {text!r}; put commas between, as in {example}")
    return TrainConfig(**settings)


@app.command(
    epilog="""\b
Examples:
  stylenorm train --photos photos/ --styles paintings/ --out mine/
  stylenorm train --photos photos/ --styles paintings/ --out mine/ --resume
  stylenorm train --photos photos/ --paintings museum/ --norm group --out g/
  stylenorm stylize photo.jpg --weights mine/ --style NAME -o painted.jpg
"""
)
@with_settings
def train(
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.", rich_help_panel=FILES)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a step.", rich_help_panel=RUN)] = False,
    **settings: Any,
) -> None:
    """Train a network: named styles, any painting, or both.

    Stop it with Ctrl-C, or in any other way; the same command with --resume
    goes on from the last checkpoint.
    """
    config = parsed(settings)
    check_inputs(config, resume)
    with watching(as_json) as watch:
        from stylenorm.training import train as run

        try:
            network = run(config, resume, watch)
        except KeyboardInterrupt:
            network = None
    if network is None:
        saved = Path(config.out, "resume.safetensors").exists()
        complain(
            f"stopped; {'the same command with --resume goes on from the last checkpoint' if saved else 'there was no checkpoint yet'}"
        )
        raise typer.Exit(130)
    print(
        json.dumps({"network": str(network)})
        if as_json
        else f"wrote {network}; use it with: stylenorm stylize --weights {config.out}"
    )


def check_inputs(config: TrainConfig, resume: bool) -> None:
    """What can be refused before torch is there."""
    for name in ("photos", "styles", "paintings"):
        folder = getattr(config, name)
        if folder and not Path(folder).is_dir():
            raise StylenormError(f"--{name} {folder} is not a folder; give a folder of pictures")
    for name in ("init", "vgg"):
        file = getattr(config, name)
        if file and file != "torchvision" and not Path(file).is_file():
            raise StylenormError(f"--{name} {file} does not exist; give a safetensors file")
    if not config.styles and not config.paintings:
        raise StylenormError("give --styles, paintings to name styles after, or --paintings, to learn any painting, or both")
    if Path(config.out).exists() and not Path(config.out).is_dir():
        raise StylenormError(f"--out {config.out} is a file; give a folder")
    if resume and not Path(config.out, "resume.safetensors").is_file():
        raise StylenormError(f"{config.out} holds no run to resume; leave --resume out to start one")


# ---- train-style, optimize ---------------------------------------------------------------------


@app.command(
    name="train-style",
    epilog="""\b
Examples:
  stylenorm train-style my-style painting.jpg
  stylenorm train-style my-style one.jpg two.jpg --minutes 5 --artist "Ada Painter" --year 1901
  stylenorm stylize photo.jpg --style my-style -o painted.jpg
""",
)
def train_style(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the style.")],
    paintings: Annotated[list[Path], typer.Argument(metavar="PAINTING", help="A picture of the painting, or several of one style.")],
    photos: Annotated[Path | None, typer.Option(help="Folder of photographs to learn on, else the few that come along.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps to train.")] = 250,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Train for so long, whatever the steps.")] = None,
    style_size: Annotated[int, typer.Option(min=64, max=2048, metavar="PX", help="Shorter side that the paintings are read at.")] = 512,
    title: Annotated[str | None, typer.Option(help="The painting's, kept in the style file.")] = None,
    artist: Annotated[str | None, typer.Option(help="The painter's name, kept in the style file.")] = None,
    year: Annotated[int | None, typer.Option(help="The painting's, kept in the style file.")] = None,
    licence: Annotated[str | None, typer.Option(help="The painting's, kept in the style file.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where the style file goes, else your own styles.")] = None,
    device: Device = "auto",
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Train a new named style in minutes. The network stays as it is; the style is usable at once."""
    network_file(weights)
    for path in paintings:
        if not path.is_file():
            raise StylenormError(f"there is no painting {path}; check the name")
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
    print(json.dumps({"name": name, "file": str(file)}) if as_json else f"wrote {file}; use it with: --style {name}")


@app.command(
    epilog="""\b
Examples:
  stylenorm optimize photo.jpg painting.jpg -o painted.jpg
  stylenorm optimize photo.jpg painting.jpg --size 768 --steps 500 --method lbfgs -o painted.png
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
    device: Device = "auto",
    weights: Weights = None,
) -> None:
    """The slow, best version: move the pixels themselves (Gatys et al. 2016). Takes minutes."""
    (job, *more) = plan([photo], output, None, [(painting, 1.0)])
    if more:
        raise StylenormError(f"{photo} is a folder; give one photograph")
    if not painting.is_file():
        raise StylenormError(f"there is no painting {painting}; check the name")
    make_folder([job])
    last = -math.inf

    def tell(step: int, loss: float) -> None:
        nonlocal last
        if time.monotonic() - last > 5 and sys.stderr.isatty():
            last = time.monotonic()
            print(f"step {step}/{steps}  loss {loss:.2f}", file=sys.stderr)

    with redirect_stdout(sys.stderr) if job.target is None else nullcontext():
        from stylenorm.optimizing import OptimizeConfig, optimize_file

        config = OptimizeConfig(steps=steps, method=method, style_weight=style_weight)
        options = {"size": size, "style_size": style_size, "config": config, "device": device, "weights": weights}
        row = do(job, lambda picture: optimize_file(picture, painting, progress=tell, **options))
    if "error" in row:
        complain(row["error"])
        raise typer.Exit(1)
    if job.target is not None:
        print(told(row))
