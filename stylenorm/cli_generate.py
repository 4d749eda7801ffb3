"""The verbs that make pictures of noise, and the network for it."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from stylenorm.catalog import generation_file, network_file, style_entries
from stylenorm.cli_parts import (
    AsJson,
    Device,
    StyleSize,
    Weights,
    as_word,
    check_fits,
    check_style_size,
    complain,
    end_with,
    show_table,
    style_names,
    verbs,
    write_out,
)
from stylenorm.cli_train import FILES, LEARNING, PICTURES, RUN, SETTINGS, train_with, with_settings
from stylenorm.compat import import_torch
from stylenorm.colors import bindings, color_of
from stylenorm.config import SEEDS, GenerateConfig
from stylenorm.errors import ImageError, StyleError, StylenormError
from stylenorm.jobs import FORMAT, SUFFIX, Job, check_stdout, check_writable, identity, make_folder, spare, style_named, weighted_file, weighted_names
from stylenorm.walking import MOVING, check_walk, write_walk

app = verbs()
SIZE = re.compile(r"(\d{1,6})(?:[xX](\d{1,6}))?")

# ---- generate ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """The styles to blend, with their weights: named ones, and paintings."""

    names: list[tuple[str, float]]
    paintings: list[tuple[Path, float]]

    def resolved(self, painter, style_size: int | None):
        stylizer = painter.stylizer
        return stylizer.resolve(self.names + [(stylizer.style_from(p, size=style_size), w) for p, w in self.paintings])


@app.command(
    epilog="""\b
Examples:
  stylenorm generate --style starry-night -o sky.png
  stylenorm generate --style kiss --size 3840x2160 --seed 7 -o wallpaper.png
  stylenorm generate --style-image my-painting.jpg --count 8 -o many/
  stylenorm generate --style great-wave --size 512 --seamless -o tile.png
  stylenorm generate --layout map.png \\
    --bind "#2040c0=water-lilies,#e0c020=kiss" -o o.png
  stylenorm generate --from kiss --to scream --frames 60 -o walk.webp
  stylenorm generate --style kiss --from 1 --to 2 --frames 60 -o seeds.gif
"""
)
def generate(
    context: typer.Context,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="A file; a folder for --count; - is standard output.")
    ],
    style: Annotated[
        list[str] | None,
        typer.Option(
            "--style", "-s", metavar="NAME:W,...", autocompletion=style_names,
            help="Named styles, with weights to blend by. May be repeated.",
        ),
    ] = None,
    style_image: Annotated[
        list[str] | None, typer.Option(metavar="PAINTING:W", help="A picture of any painting, with a weight. May be repeated.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Pixels; one number for a square. Else 1024, 512 for a walk.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=SEEDS - 1, help="Another number is another picture.")] = 0,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="So many pictures, of this seed and the next ones.")] = 1,
    seamless: Annotated[bool, typer.Option("--seamless", help="A tile that goes on across its own edges.")] = False,
    layout: Annotated[Path | None, typer.Option(metavar="MAP", help="A map in flat colours, each of which --bind binds to a style.")] = None,
    bind: Annotated[str | None, typer.Option(metavar="COLOR=NAME,...", help="Which style each colour of the layout gets.")] = None,
    soft: Annotated[float, typer.Option(min=0, max=30, help="Width of the layout's borders, % of the shorter side.")] = 4.0,
    start: Annotated[str | None, typer.Option("--from", metavar="A", help="A walk's first style; with --style, its first seed.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="B", help="Its last style, or seed.")] = None,
    frames: Annotated[int, typer.Option(min=2, max=10_000, help="Frames of a walk.")] = 60,
    fps: Annotated[float, typer.Option(min=1, max=100, help="Frames a second; a GIF shows 50 at most.")] = 20,
    back: Annotated[bool, typer.Option("--back", help="Walk back again, so that it can go round for ever.")] = False,
    style_size: StyleSize = None,
    format: Annotated[
        Literal["jpeg", "png", "webp", "tiff", "avif", "heic"] | None, typer.Option(help="What to write, else what the name says.")
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG, WebP, AVIF, HEIC and MP4.")] = 95,
    device: Device = "auto",
    weights: Weights = None,
    network: Annotated[Path | None, typer.Option(metavar="FILE", help="The network that paints noise, else generate.safetensors beside the network of --weights.")] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Make new pictures from noise and a style: no photograph is needed.

    The same seed gives the same picture; a larger --size shows more of it.
    """
    check_network(weights, network)
    walking = start is not None or end is not None
    wh = parsed_size(size, 512 if walking else 1024)
    laid = layout is not None or bind is not None
    check_alone(context, walking, laid, walking and bool(style or style_image))
    if walking and (laid or count > 1):
        raise StylenormError("a walk takes no --layout and no --count; leave them out, or --from and --to")
    if as_json and output == "-":
        raise StylenormError("the picture and --json cannot both go to standard output; give -o FILE")
    ends = walk_ends(start, end, seed, style, style_image, weights) if walking else None
    bound = bound_styles(layout, bind, style, style_image, weights) if laid else None
    wanted = None if ends or bound else wanted_styles(style, style_image, weights)
    check_style_size(style_size, style_image or ())
    jobs = [walk_job(output, wh)] if ends else targets(output, count, seed, format)
    styles = [near for near, _ in ends] if ends else [wanted] if wanted else []
    read = [layout] if layout else [painting for made in styles for painting, _ in made.paintings]
    spare({identity(path) for path in read}, *(job.target for job in jobs))
    make_folder(jobs)
    say = (lambda line: None) if quiet or as_json or output == "-" else print
    rows = []
    with redirect_stdout(sys.stderr) if output == "-" else nullcontext():
        import_torch()
        from stylenorm.generating import NoisePainter

        painter = NoisePainter(weights, network, device)
        painter.check_size(wh, seamless)
        if ends:
            rows.append(walked(painter, jobs[0], ends, frames, wh, seamless, back, fps, quality, style_size))
        else:
            made = wanted.resolved(painter, style_size) if wanted else list(bound.values())
            drawn = read_layout(layout, bound, soft) if bound else None
            sides = layout_size(drawn, size, wh, seamless)
            check_fits(jobs[0], sides)
            for number, job in enumerate(jobs):
                wish = {"style": made, "size": sides, "seed": seed + number, "seamless": seamless, "layout": drawn}
                rows.append(painted(painter, job, wish, quality))
                if "error" in rows[-1]:
                    complain(rows[-1]["error"])
                else:
                    say(told(rows[-1]))
    if ends:
        say(told(rows[0]))
    end_with(rows, as_json)


def check_alone(context: typer.Context, walking: bool, laid: bool, between_seeds: bool) -> None:
    """Refuse what would do nothing: a walk's options without a walk, a layout's without a layout, a seed where there are two."""
    for option, of_use, wanted in (
        ("frames", walking, "a walk; give --from and --to as well"),
        ("fps", walking, "a walk; give --from and --to as well"),
        ("back", walking, "a walk; give --from and --to as well"),
        ("format", not walking, "pictures that stand still; a walk is what its file's name says"),
        ("seed", not between_seeds, "one picture or a walk between styles; beside --style, --from and --to are the seeds"),
        ("soft", laid, "a layout; give --layout and --bind as well"),
    ):
        if not of_use and context.get_parameter_source(option).name == "COMMANDLINE":
            raise StylenormError(f"--{option} is for {wanted}")


def check_network(weights: Path | None, network: Path | None) -> None:
    network_file(weights)
    if network is None:
        generation_file(weights)
    elif not network.is_file():
        raise StylenormError(f"--network {network} does not exist; give a file that train-generate made")


def parsed_size(text: str | None, default: int) -> tuple[int, int]:
    found = SIZE.fullmatch(text.strip()) if text is not None else None
    if text is not None and not found:
        raise StylenormError(f"--size cannot be {text!r}; give it as in 1920x1080, or one number for a square")
    return (default, default) if found is None else (int(found[1]), int(found[2] or found[1]))


def wanted_styles(style, style_image, weights) -> Wanted:
    paintings = [weighted_file(text) for text in style_image or ()]
    names = weighted_names(style or (), weights)
    if not names and not paintings:
        known = [entry.name for entry in style_entries(weights)]
        more = ", ..." if len(known) > 6 else ""
        raise StyleError(f"give --style NAME, one of {', '.join(known[:6]) or 'none'}{more}, or --style-image PAINTING")
    if not sum(w for _, w in names + paintings) > 0:
        raise StyleError("at least one style needs a weight above 0")
    return Wanted(names, paintings)


def walk_ends(start, end, seed: int, style, style_image, weights) -> tuple[tuple[Wanted, int], tuple[Wanted, int]]:
    """The two ends of a walk, each a style and a seed: two styles and one seed, or one style and two seeds."""
    if start is None or end is None:
        raise StylenormError("a walk has two ends; give both --from and --to")
    if not (style or style_image):
        return tuple((wanted_styles([name], None, weights), seed) for name in (start, end))
    wanted = wanted_styles(style, style_image, weights)
    seeds = [int(text) if text.isdecimal() and int(text) < SEEDS else None for text in (start, end)]
    if None in seeds:
        raise StylenormError("beside --style, --from and --to are seeds, whole numbers from 0; leave --style out to walk between styles")
    return tuple((wanted, number) for number in seeds)


def bound_styles(layout: Path | None, bind: str | None, style, style_image, weights) -> dict[tuple[int, int, int], str]:
    """The style of each colour of the layout."""
    if not layout or not bind:
        raise StylenormError("a layout takes both --layout MAP and --bind COLOR=NAME,...")
    if style or style_image:
        raise StylenormError("with a layout, --bind says which styles there are; leave --style and --style-image out")
    if not layout.is_file():
        raise StylenormError(f"there is no layout {layout}; check the name")
    found = bindings(bind)
    known = [entry.name for entry in style_entries(weights)]
    return {color_of(color): style_named(name, known) for color, name in found.items()}


def read_layout(path: Path, bound: dict, soft: float):
    from stylenorm.images import read_picture
    from stylenorm.layouts import Layout

    return Layout.of(read_picture(path).rgb, list(bound), soft)


def layout_size(layout, size: str | None, wh: tuple[int, int], seamless: bool) -> tuple[int, int]:
    """Without --size a picture has its layout's proportions, the nearest ones where its sides must be multiples of 16."""
    if layout is None or size is not None:
        return wh
    sides = layout.index.shape[::-1]
    scale = max(wh[0] / max(sides), 64 / min(sides))
    if not seamless:
        return tuple(round(n * scale) for n in sides)
    scale = round(min(sides) * scale / 16) * 16 / min(sides)  # rounding distorts the shorter side most
    return tuple(round(n * scale / 16) * 16 for n in sides)


def targets(output: str, count: int, seed: int, format: str | None) -> list[Job]:
    """Where each picture goes."""
    if seed + count > SEEDS:
        raise StylenormError(f"the last of {count} pictures would have the seed {seed + count - 1}; seeds end at 2^63 - 1")
    check_writable(format)
    if output == "-":
        if count > 1:
            raise StylenormError("only one picture can go to standard output; give a folder with -o")
        check_stdout()
        return [Job(None, None, format or "png")]
    if not output:
        raise StylenormError("-o is empty; give a file or a folder")
    target = Path(output)
    if target.is_dir() or output.endswith(("/", os.sep)) or count > 1:
        if target.suffix.lower() in {*FORMAT, *MOVING} and not target.is_dir() and not output.endswith(("/", os.sep)):
            raise StylenormError(f"{count} pictures do not fit into the file {output}; give a folder")
        suffix = SUFFIX[format or "png"]
        return [Job(None, target / f"{number}{suffix}", format) for number in range(seed, seed + count)]
    if target.suffix.lower() in MOVING and target.suffix.lower() not in FORMAT:
        raise StylenormError(f"{output} is for a walk; give --from and --to, or another name")
    if target.suffix.lower() not in FORMAT and format is None:
        raise StylenormError(f"{output} does not end in a format ({', '.join(FORMAT)}); add one, or give --format")
    check_writable(FORMAT.get(target.suffix.lower()))
    if format and FORMAT.get(target.suffix.lower(), format) != format:
        raise StylenormError(f"{output} says {FORMAT[target.suffix.lower()]} and --format says {format}; give one of them")
    if not target.absolute().parent.is_dir():
        raise StylenormError(f"there is no folder {target.parent}; make it first")
    return [Job(None, target, format)]


def walk_job(output: str, size: tuple[int, int]) -> Job:
    check_walk(Path(output), size)
    if not Path(output).absolute().parent.is_dir():
        raise StylenormError(f"there is no folder {Path(output).parent}; make it first")
    return Job(None, Path(output), None)


def painted(painter, job: Job, wish: dict, quality: int) -> dict[str, Any]:
    """Make one picture, write it, and tell of it, or of why it cannot be written, as a row of --json."""
    from stylenorm.images import write_picture

    started = time.perf_counter()
    image = painter.generate(progress=slowly_told("tile"), **wish)
    if job.target is None:
        write_picture(image, buffer := BytesIO(), format=job.format, quality=quality)
        write_out(buffer.getvalue())
    else:
        try:
            write_picture(image, job.target, format=job.format, quality=quality)
        except ImageError as error:
            return {"output": None, "width": None, "height": None, "seed": wish["seed"], "seconds": None, "error": str(error)}
    return row(job, image.size, wish["seed"], started)


def walked(painter, job: Job, ends, frames: int, size, seamless: bool, back: bool, fps: float, quality: int, style_size) -> dict[str, Any]:
    started = time.perf_counter()
    (near, first), (far, last) = ends
    style = near.resolved(painter, style_size)
    other = style if near is far else far.resolved(painter, style_size)
    pictures = painter.walk(style, other, frames, size, (first, last), seamless)
    write_walk(job.target, told_of(pictures, frames), frames, fps, quality, back)
    return row(job, size, first, started) | {"frames": 2 * frames - 2 if back else frames}


def slowly_told(what: str):
    """Tells on a terminal, now and then, how many are done and of how many; None where nobody looks."""
    if not sys.stderr.isatty():
        return None
    last = time.monotonic()

    def tell(done: int, count: int) -> None:
        nonlocal last
        if time.monotonic() - last > 5:
            last = time.monotonic()
            print(f"{what} {done}/{count}", file=sys.stderr)

    return tell


def told_of(pictures: Iterator, count: int) -> Iterator:
    """The same pictures, each told of as it passes."""
    tell = slowly_told("frame")
    for number, picture in enumerate(pictures, 1):
        if tell:
            tell(number, count)
        yield picture


def row(job: Job, size: tuple[int, int], seed: int, started: float) -> dict[str, Any]:
    seconds = round(time.perf_counter() - started, 3)
    return {"output": str(job.target or "-"), "width": size[0], "height": size[1], "seed": seed, "seconds": seconds}


def told(row: dict[str, Any]) -> str:
    frames = f", {row['frames']} frames" if "frames" in row else f", seed {row['seed']}"
    return f"{row['output']} ({row['width']} x {row['height']}{frames}, {row['seconds']:.2f} s)"


# ---- bench --generate --------------------------------------------------------------------------


def show_bench(styles, names: str, pictures: int, weights, network, dead, device: str, as_json: bool) -> None:
    """What bench does with --generate."""
    check_network(weights, network)
    if not styles or not styles.is_dir():
        raise StylenormError("bench --generate needs --styles, the folder of the named styles' paintings")
    if dead and not dead.is_file():
        raise StylenormError(f"--dead {dead} does not exist; give a file that train-generate made")
    import_torch()
    from stylenorm.bench_generate import run_generate

    chosen = tuple(name.strip() for name in names.split(",") if name.strip())
    notice = (lambda line: print(line, file=sys.stderr)) if sys.stderr.isatty() else None
    found = run_generate(styles, chosen, pictures, weights=weights, network=network, dead=dead, device=device, progress=notice)
    if as_json:
        return print(json.dumps(found, indent=2))
    keys = ("style", "diversity", "seconds")
    show_table(
        ("style", "what", "distance", "diversity", "s a megapixel"),
        [(r["name"], r["what"], *("" if r.get(key) is None else str(r[key]) for key in keys)) for r in found],
    )


# ---- train-generate ----------------------------------------------------------------------------

# What has to do with photographs, and what the stylizing network says already.
HIDDEN = (
    "photos", "photo_scales", "content_weight", "content_weights", "structure_weight", "encoder_learning_rate", "style_learning_rate",
    "norm", "num_groups", "widths", "blocks", "grow", "widen", "encoder_width",
)  # fmt: skip
NOISE = "Noise"
TEXTS = SETTINGS | {
    "styles": (FILES, "Folder of paintings called as the network's named styles are."),
    "paintings": (FILES, "Folder of paintings that keep the network able to take any painting."),
    "init": (FILES, "Stylizing network whose styles the result takes, and to start from; else the shipped one."),
    "generator": (FILES, "Result of an earlier run to start from, in place of that network."),
    "names": (FILES, "Which of --styles to train, with commas between; else all that the network has."),
    "batch": (RUN, "Pictures a step, in pairs of one style."),
    "optimizer": (LEARNING, "What moves the generator's weights."),
    "diversity_weight": (LEARNING, "Weight of what keeps two pictures of one style apart."),
    "size": (PICTURES, "Side of the pictures, px."),
    "slope": (NOISE, "Noise with forms of s px has the amplitude s^slope: less is finer grain."),
    "contrast": (NOISE, "Standard deviation of the noise, of 1 from black to white."),
    "color": (NOISE, "How much of the noise is colour, from 0 to 1."),
}


@app.command(
    name="train-generate",
    epilog="""\b
Examples:
  stylenorm train-generate --styles art/ --paintings all/ --out gen/
  stylenorm train-generate --styles art/ --paintings all/ --out gen/ --resume
  stylenorm generate --network gen/generate.safetensors --style kiss -o o.png
""",
)
@with_settings(GenerateConfig, TEXTS, HIDDEN)
def train_generate(
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.", rich_help_panel=FILES)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a step.", rich_help_panel=RUN)] = False,
    **settings: Any,
) -> None:
    """Train the network that generate uses: from a stylizing network, on noise.

    Its styles stay as they are and serve both. Stop it with Ctrl-C, or in
    any other way; the same command with --resume goes on.
    """
    usage = f"stylenorm generate --network {as_word(Path(settings['out'], 'generate.safetensors'))}"
    usage += f" --weights {as_word(settings['init'])}" if settings["init"] else ""
    train_with(GenerateConfig, settings, ("stylenorm.noise_training", "train_generate"), resume, as_json, usage)
