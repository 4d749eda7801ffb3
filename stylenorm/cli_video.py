"""The verb for films: video."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from stylenorm import __version__
from stylenorm.cli_batch import Wanted, check_people, resolved, settings_of, told_side, wanted_in, wanted_styles
from stylenorm.cli_parts import (
    AsJson,
    Backend,
    Device,
    Faces,
    Grain,
    Keep,
    Mask,
    PaintAt,
    PreserveColor,
    Quiet,
    RegionsOf,
    Strength,
    StyleSize,
    Weights,
    check_style_size,
    complain,
    lean_stylizer,
    masks_of,
    style_names,
    verbs,
)
from stylenorm.cli_show import Show, stopping
from stylenorm.drafts import reach
from stylenorm.errors import FilmError, OutputError, StyleError, StylenormError, counted, how_to_install
from stylenorm.formats import FACES, FILMS, is_hidden
from stylenorm.jobs import Masks, identity, region_of
from stylenorm.manifest import Manifest
from stylenorm.progress import duration

app = verbs()


@app.command(
    epilog="""\b
Examples:
  stylenorm video holiday.mp4 painted.mp4 --style starry-night
  stylenorm video holiday.mp4 painted.mp4 --style kiss:2,scream:1 --size 960
  stylenorm video clip.mov painted.webm --style-image art.jpg --smoothing 0.9
  stylenorm video clip.mp4 painted.mp4 --style auvers --mask sky.png
  stylenorm video clip.mp4 painted.mp4 --style auvers --keep people
  stylenorm video clips/ painted/ --style kiss
"""
)
def video(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A video, or a folder of them.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A .mp4, .m4v, .mov, .mkv or .webm file; for a folder a folder.")],
    style: Annotated[
        str | None,
        typer.Option(
            "--style", "-s", metavar="NAME:W,...", autocompletion=style_names, help="A named style, or a blend of several."
        ),
    ] = None,
    style_image: Annotated[str | None, typer.Option(metavar="PAINTING", help="A picture of any painting.")] = None,
    strength: Strength = 1.0,
    preserve_color: PreserveColor = False,
    grain: Grain = True,
    faces: Faces = FACES,
    size: Annotated[
        int | None, typer.Option(min=16, max=8192, metavar="PX", help="Longer side of the result, else the film's.")
    ] = None,
    paint_at: PaintAt = None,
    style_size: StyleSize = None,
    mask: Mask = None,
    keep: Keep = None,
    region: RegionsOf = None,
    smoothing: Annotated[
        float, typer.Option(min=0, max=0.98, help="Share of the past, so that strokes hold still where they are; 0: each frame by itself.")
    ] = 0.8,
    crf: Annotated[int, typer.Option(min=0, max=51, help="Of the encoder: less is better, and a larger file; 0 is without loss, which few players show.")] = 18,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT, and begin anew what was begun without it.")] = False,
    device: Device = "auto",
    backend: Backend = "auto",
    weights: Weights = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Paint a film. Sound, chapters, title, rights, time stamps and orientation stay.

    Stop it with Ctrl-C, or in any other way: the same command goes on from the
    last 50 frames that were finished. They are kept in the folder OUT.parts
    until OUT is written. Of a film that is cut short, what is readable is
    painted, and the exit code is 1.

    Of a folder, each film directly in it is painted, a broken one is named, and
    one that is painted already stays.

    A mask is one picture for all of a film, or moves: a film or an animation of as
    many frames, or a folder of pictures numbered by frame. A folder of masks may
    have any of these, called like the film that it is for.

    Black bars above and below, or beside the picture, stay as they are. HDR is
    painted in standard range, and interlaced frames as of one moment.

    H.264 is written, in .webm VP9. With an even --size the other side is made
    even, too. A film with an odd side is written in 4:4:4, which few players
    show; --size can avoid it. A .webm has square pixels. It takes:
    pip install "stylenorm\\[video]".
    """
    if math.isnan(smoothing):
        raise StylenormError("the smoothing must be a number from 0 to 0.98")
    wanted = one_style(style, style_image, weights)
    asked_regions = [region_of(text, weights) for text in region or ()]
    check_style_size(style_size, [*([style_image] if style_image else []), *(r.painting for r in asked_regions if r.painting)])
    several = source.is_dir()
    films = films_of(source, target) if several else [(source, target)]
    if not several:
        check_files(source, target, overwrite)
    if not find_spec("av"):
        raise StylenormError(f"video takes the package av: {how_to_install('video')}")
    options = {"strength": strength, "preserve_color": preserve_color, "size": size, "smoothing": smoothing, "grain": grain, "paint_at": paint_at, "faces": faces}
    load = lru_cache(partial(lean_stylizer, weights, device, backend, predicts=0 < strength < 1))
    asked = Asked(wanted, options, style_size, crf, overwrite, weights, quiet or as_json, load, masks_of(mask, keep), [(wanted_in(r), r.masks) for r in asked_regions])
    failed = 0
    for film, out in films:
        if several and out.exists() and not overwrite:
            complain(f"{out} is there already and stays as it is; --overwrite paints it anew")
            continue
        row = painted(film, out, asked, several)
        tell(row, as_json, anew=several and overwrite)
        failed += bool(row["trouble"])
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class Asked:
    """What was asked for, of every film. options: of `Stylizer.stream`. load: gives the stylizer, which is loaded once."""

    wanted: Wanted
    options: dict
    style_size: int | None
    crf: int
    overwrite: bool
    weights: Path | None
    quiet: bool
    load: Callable
    masks: Masks | None = None
    regions: Sequence[tuple[Wanted, Masks]] = ()

    def settings(self, film: Path) -> dict:
        """What sets the pixels of the painting: an interrupted run goes on under the same ones alone."""
        about = film.stat()
        more = {"crf": self.crf, "video": film.name, "bytes": about.st_size, "changed": about.st_mtime_ns}
        if self.masks:
            more["keep" if self.masks.inverted else "mask"] = told_for(film, self.masks)
        regions = [(w, there, told_for(film, there)) for w, there in self.regions]
        options = {name: value for name, value in self.options.items() if name != "paint_at"} | told_side(self.options["paint_at"])
        return settings_of([self.wanted], self.weights, self.style_size, options | more, regions)

    def files(self) -> list[Path]:
        """The masks, which nothing may be written over."""
        return [path for m in (self.masks, *(there for _, there in self.regions)) if m for path in m.files()]


def told_for(film: Path, masks: Masks) -> str:
    """What tells of a film's mask."""
    from stylenorm.mattes import matte_for

    if masks.word:
        return masks.word
    matte = matte_for(masks, film)
    return matte.told() if matte else sha256(masks.content_for(film)).hexdigest()


def check_mask(out: Path, masks: Sequence[Path]) -> None:
    if out.exists() and identity(out) in map(identity, masks):
        raise StylenormError(f"{out} is the mask and would be overwritten; give another name")


def painted(film: Path, out: Path, asked: Asked, several: bool) -> dict:
    """Paint a film, and give its row of --json. One of several that cannot be painted is told there, and the others go on."""
    with told_of_stops(out):
        try:
            check_files(film, out, asked.overwrite)
            check_mask(out, asked.files())
            settings = asked.settings(film)
            show = Reel(asked.quiet, as_lines=False)
            with redirect_stdout(sys.stderr):  # whatever a library prints
                return paint(film, out, asked, settings, show)
        except StylenormError as error:
            if isinstance(error, OutputError) or not (several or isinstance(error, FilmError)):
                raise
            return {"input": str(film), "output": str(out), "finished": True, "trouble": str(error)}


def tell(row: dict, as_json: bool, anew: bool) -> None:
    """Tell what came of a film; one that was stopped ends it all. anew: the same command paints those before it once more."""
    if as_json:
        print(json.dumps(row))
    if not row["finished"]:
        films = ", when it has painted the films before this one anew" if anew else ""
        complain(f"stopped after {counted(row['frames'], 'frame')}; the same command goes on from there{films}")
        raise typer.Exit(130)
    if row["trouble"]:
        complain(row["trouble"])


@contextmanager
def told_of_stops(target: Path) -> Iterator[None]:
    """What ends all work becomes a sentence: Ctrl-C, and a full disk."""
    try:
        yield
    except KeyboardInterrupt:
        complain("stopped; the same command goes on")
        raise typer.Exit(130) from None
    except OSError as error:
        from stylenorm.batch_steps import NO_MORE_ROOM, no_room

        if error.errno not in NO_MORE_ROOM:
            raise
        raise no_room(target, error) from None


def films_of(folder: Path, target: Path) -> list[tuple[Path, Path]]:
    """Every film right in ``folder``, and where its painting goes: under its own name, as .mp4 where that is no format to write.

    Where two would have one name, such as a.avi and a.mp4, the former is a.avi.mp4.
    """
    from stylenorm.video_files import CONTAINERS

    files = sorted(p for p in folder.iterdir() if not is_hidden(p.name) and p.suffix.lower() in FILMS and (p.is_file() or not p.exists()))  # a link to nothing is told as broken
    if not files:
        raise StylenormError(f"the folder {folder} holds no video; only files right in it are taken")
    if target.suffix.lower() in CONTAINERS and not target.is_dir():
        raise StylenormError(f"{counted(len(files), 'video does', 'videos do')} not fit into the file {target}; give a folder")
    if identity(folder) == identity(target):
        raise StylenormError(f"{target} is where the videos are; give another folder for the paintings")
    written = {identity(target / p.name) for p in files if p.suffix.lower() in CONTAINERS}
    names = []
    for path in files:
        name, longer = path.name if path.suffix.lower() in CONTAINERS else f"{path.stem}.mp4", path.name
        while name != path.name and identity(target / name) in written:
            name = longer = f"{longer}.mp4"
        written.add(identity(target / name))
        names.append(name)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StylenormError(f"the folder {target} cannot be made ({error.strerror or error}); give another") from None
    return [(path, target / name) for path, name in zip(files, names)]


def one_style(style: str | None, style_image: str | None, weights: Path | None) -> Wanted:
    if style and style_image:
        raise StyleError("give --style or --style-image, not both")
    return wanted_styles([style] if style else (), [style_image] if style_image else (), weights)[0]


def check_files(source: Path, target: Path, overwrite: bool) -> None:
    from stylenorm.video_files import check_place, container_of

    container_of(target)
    if not source.is_file():
        reach(source)
        raise StylenormError(f"there is no video {source}; check the name")
    if identity(source) == identity(target):
        raise StylenormError(f"{target} is the input and would be overwritten; give another name")
    check_place(target)
    if target.exists() and not overwrite:
        raise StylenormError(f"{target} is there already; give another name, or --overwrite")


class Reel(Show):
    """Tells people how a film goes."""

    unit = "frames"

    def begin(self, film, description: str) -> None:
        self.total = film.frames or 0
        width, height = film.size
        self.say(f"{width} x {height}, about {counted(film.frames or '?', 'frame')}, {float(film.rate):.4g} a second{', HDR, painted in standard range' if film.hdr else ''}; {description}")

    def frame(self, done: int) -> None:
        self.done = done
        if self._draw:
            self._draw()
        elif time.monotonic() - self._told > 10:
            self._told = time.monotonic()
            self.say(f"{self.done}/{self.total or '?'}  {self.pace()}")

    def end_of(self, report, source: Path, target: Path, stream, seconds: float) -> None:
        if report.kept:
            self.say(f"{counted(report.kept, 'frame was', 'frames were')} painted by an earlier run")
        for note in report.notes:
            complain(note)
        if report.finished:
            self.painting(report, source, target, stream, seconds)

    def painting(self, report, source: Path, target: Path, stream, seconds: float) -> None:
        from stylenorm.video_files import container_of, pixel_format, probe

        width, height = size = stream.size or probe(target).size  # where an earlier run had painted all of it
        if pixel_format(container_of(target)[1], size) == "yuv444p":
            complain(f"{target} has an odd side and was written in 4:4:4, which few players show; --size can avoid it")
        if stream.box:
            left, top, right, bottom = stream.box
            self.say(f"black bars stay as they are; {right - left} x {bottom - top} px of each frame are painted")
        made = f"{width} x {height}, {counted(report.frames, 'frame')}, {counted(report.cuts, 'scene cut')}, {duration(seconds)}"
        self.say(f"{source} -> {target} ({made})")


def paint(source: Path, target: Path, asked: Asked, settings: dict, show: Reel) -> dict:
    """Open everything, paint, and say what came of it, as the row of --json."""
    from stylenorm.batch import now
    from stylenorm.masks import mask_levels
    from stylenorm.mattes import matte_for
    from stylenorm.video import paint_video, parts_folder
    from stylenorm.video_files import probe

    film, folder, started = probe(source), parts_folder(target), time.monotonic()
    stop = threading.Event()
    settings = settings | read_as(film, target)
    with Manifest(folder) as manifest:
        if asked.overwrite and not (manifest.replacing and manifest.settings == settings):  # only now, when no other run is painting into it
            manifest.settings, manifest.done = None, {}
        check_begun(manifest, settings, folder)
        wanted = asked.masks, *(there for _, there in asked.regions)
        check_people(wanted)
        stylizer = asked.load()
        mattes = [matte_for(there, source) for there in wanted]

        def still(masks: Masks | None, matte):
            """The mask of all frames; where they have one each, any will do to begin with."""
            if matte:
                matte.check_length(film.path, film.frames)
            mask = next(matte.masks()) if matte else masks and masks.mask_for(source)
            if masks and not masks.word:
                mask_levels(mask, film.size)  # one that cannot be used is told before anything is begun with it
            return mask

        styles = [resolved(stylizer, w, asked.style_size) for w in (asked.wanted, *(w for w, _ in asked.regions))]
        mask, *parts = map(still, wanted, mattes)
        stream = stylizer.stream(styles[0], mask=mask, regions=list(zip(styles[1:], parts)), **asked.options)
        if manifest.settings != settings:
            manifest.begin(settings, asked.overwrite, stylenorm=__version__, computed_by=stylizer.describe(), time=now())
        show.begin(film, stylizer.describe())
        with stopping(stop), show.bar():
            report = paint_video(film, target, stream, manifest, asked.crf, stop, show.frame, mattes=mattes)
    seconds = round(time.monotonic() - started, 1)
    show.end_of(report, source, target, stream, seconds)
    row = {"input": str(source), "output": str(target), "frames": report.frames, "kept": report.kept, "cuts": report.cuts}
    return row | {"finished": report.finished, "seconds": seconds, "notes": report.notes, "trouble": film.trouble if report.finished else None}


def read_as(film, target: Path) -> dict:
    """The settings' part about how its frames and their times are taken, where earlier versions, whose parts may lie there, took them otherwise."""
    from stylenorm.video import written_square

    return ({"clock": "from 0"} if film.late else {}) | ({"pixels": "square"} if written_square(film, target) else {})


def check_begun(manifest: Manifest, settings: dict, folder: Path) -> None:
    from stylenorm.batch import differences

    if manifest.done and manifest.settings != settings:
        told = "; ".join(differences(manifest.settings, settings))
        raise StylenormError(f"what is in {folder} was begun with {told}; give the same settings, or --overwrite to begin anew")
