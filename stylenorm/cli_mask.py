"""The verb that writes where people are, mask."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stylenorm.cli_parts import AsJson, Quiet, complain, do, end_with, row_of, tell_row, verbs
from stylenorm.cli_show import stopping
from stylenorm.cli_video import Reel
from stylenorm.errors import FilmError, StylenormError, counted, how_to_install
from stylenorm.formats import FILMS, PHOTOGRAPHS, is_hidden
from stylenorm.jobs import Job, identity, left_out, make_folder, plan, spare

if TYPE_CHECKING:
    from PIL.Image import Image

    from stylenorm.steady import PeopleWatch
    from stylenorm.video_files import Film

CRF = 8  # of the encoder, for a film of masks

app = verbs()


@app.command(
    epilog="""\b
Examples:
  stylenorm mask photo.jpg -o mask.png
  stylenorm stylize photo.jpg --style kiss --keep mask.png -o painted.jpg
  stylenorm mask photos/ -o masks/
  stylenorm batch photos/ painted/ --style kiss --keep masks/
  stylenorm mask clip.gif -o clip-mask.png
  stylenorm mask clip.mp4 -o clip-mask.mp4
  stylenorm video clip.mp4 painted.mp4 --style kiss --keep clip-mask.mp4
  stylenorm mask clip.mp4 -o frames/
"""
)
def mask(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO...", help="Photographs, or folders of them, or one film; - is standard input.")],
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="OUT", help="A picture file; a folder (there already, or ending in a slash); a film for a film; - is standard output."),
    ],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write where the people of photographs are: white on black, as --mask, --keep and --region take it.

    They find people by themselves (--keep people); this is for looking at what
    they find, and for correcting it with a picture editor. In a folder a mask
    has its photograph's name, and is a PNG. Of an animation it is a PNG that
    moves with it. Of a film it is a film without sound, or, in a folder of
    their own, a picture for each frame, numbered, and exact.
    """
    if len(photos) == 1 and Path(photos[0]).suffix.lower() in FILMS:
        return film_masks(Path(photos[0]), output, quiet or as_json, as_json)
    from stylenorm.animation import frame_count
    from stylenorm.people import NOBODY, any_in, find_people

    many = len(photos) > 1 or Path(photos[0]).is_dir()
    as_png = many or output == "-" or output.endswith(("/", os.sep)) or Path(output).is_dir()
    jobs = plan(photos, output, "png" if as_png else None, stills=True)
    if jobs[0].target is None and as_json:
        raise StylenormError("the picture and --json cannot both go to standard output; give -o FILE")
    make_folder(jobs)
    say = (lambda line: None) if quiet or as_json or jobs[0].target is None else print
    for line in () if quiet else left_out(photos):
        complain(line)
    rows = []
    for number, job in enumerate(jobs, 1):
        count = frame_count(job.source) if job.source and job.source.is_file() else 1
        moves = count > 1 and job.target is not None and job.written == "png"

        def find(picture, job=job, count=count):
            if count > 1 and not quiet:
                complain(f"{job.named}: people are looked for in the first of its {count} frames alone; in a file that ends in .png, in each")
            found = find_people(picture)
            if not (quiet or any_in(found)):
                complain(f"{job.named}: {NOBODY}")
            return found

        with redirect_stdout(sys.stderr) if jobs[0].target is None else nullcontext():  # whatever a library prints
            rows.append(row := animation_masks(job, quiet) if moves else do(job, find))
        tell_row(row, number, len(jobs), say)
    end_with(rows, as_json)


def animation_masks(job: Job, quiet: bool) -> dict:
    """The masks of an animation's frames as an animated PNG, with a frame for each, as long as it; the row of --json."""
    from stylenorm.animation import Survey, frames, write_masks
    from stylenorm.people import nobody_in
    from stylenorm.steady import PeopleWatch

    def animation():
        watch, survey = PeopleWatch(), Survey()

        def shown():
            for picture, duration, survey.plays in frames(job.source):
                survey.durations.append(duration)
                yield picture.rgb

        first = write_masks(job.target, map(watch, shown()), survey)
        for line in () if quiet else nobody_in(job.named, watch.somebody):
            complain(line)
        return first

    return row_of(job, animation)


class Stopped(Exception):
    """In the middle of a film."""


def film_masks(source: Path, output: str, quiet: bool, as_json: bool) -> None:
    """The masks of a film's frames as a film, or as pictures numbered from 1 in a new folder, or an empty one."""
    from stylenorm.people import nobody_in
    from stylenorm.steady import PeopleWatch
    from stylenorm.video_files import probe

    if not find_spec("av"):
        raise StylenormError(f"the frames of films take the package av: {how_to_install('video')}")
    target = Path(output)
    picture = target.suffix.lower() in PHOTOGRAPHS and not target.is_dir() and not output.endswith(("/", os.sep))
    if output in ("", "-") or picture or (target.is_file() and target.suffix.lower() not in FILMS):
        raise StylenormError(f"the masks of {source} go to a folder, one for each frame, or to a film; give one with -o")
    try:
        film = probe(source)
    except FilmError as error:
        if as_json:
            print(json.dumps([{"input": str(source), "output": None, "frames": 0, "finished": True, "trouble": str(error)}]))
        complain(error)
        raise typer.Exit(1) from None
    as_film = target.suffix.lower() in FILMS and not target.is_dir()
    if as_film:
        prepare_film(target, source)
    else:
        prepare_folder(target)
    show, watch, stop = Reel(quiet, as_lines=False), PeopleWatch(), threading.Event()
    show.begin(film, "looking for people")
    with stopping(stop), show.bar():
        done = (into_film if as_film else into_folder)(film, target, watch, stop, show.frame)
    if as_json:
        output = None if as_film and stop.is_set() else str(target)
        print(json.dumps([{"input": str(source), "output": output, "frames": done, "finished": not stop.is_set(), "trouble": None if stop.is_set() else film.trouble}]))
    if stop.is_set():
        what = f"{target} was not written" if as_film else f"what is in {target} is of these alone"
        complain(f"stopped after {counted(done, 'frame')}; {what}")
        raise typer.Exit(130)
    for line in () if quiet else nobody_in(source, watch.somebody):
        complain(line)
    show.say(f"{source} -> {target} ({counted(done, 'mask')})")
    if film.trouble:
        complain(film.trouble)
        raise typer.Exit(1)


def prepare_film(target: Path, source: Path) -> None:
    from stylenorm.video_files import check_place, container_of

    spare({identity(source)}, target)
    container_of(target)
    check_place(target)


def prepare_folder(folder: Path) -> None:
    if folder.is_dir() and any(not is_hidden(p.name) and p.name.lower() not in ("desktop.ini", "thumbs.db") for p in folder.iterdir()):
        raise StylenormError(f"{folder} holds something already, and masks are told by their numbers; give an empty folder, or a new one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StylenormError(f"the folder {folder} cannot be made ({error.strerror or error}); give another") from None


def into_folder(film: Film, folder: Path, watch: PeopleWatch, stop: threading.Event, tell: Callable[[int], None]) -> int:
    """How many frames were looked at."""
    from stylenorm.images import write_picture
    from stylenorm.video_files import frames

    done = 0
    for *_, frame in frames(film):
        if stop.is_set():
            break
        write_picture(watch(frame()), folder / f"{done + 1:06}.png")
        tell(done := done + 1)
    return done


def into_film(film: Film, target: Path, watch: PeopleWatch, stop: threading.Event, tell: Callable[[int], None]) -> int:
    """The same; nothing is written where it was stopped, for a mask has to be as long as its film."""
    from stylenorm.video import write_film

    done = 0

    def mask_of(frame: Image) -> Image:
        nonlocal done
        if stop.is_set():
            raise Stopped
        found = watch(frame).convert("RGB")
        tell(done := done + 1)
        return found

    with suppress(Stopped):
        write_film(film, target, mask_of, CRF, silent=True)
    return done
