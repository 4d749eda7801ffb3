"""The verb that writes where people are, mask."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, redirect_stdout
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stylenorm.cli_parts import AsJson, Quiet, complain, do, end_with, row_of, tell_row, verbs
from stylenorm.cli_show import stopping
from stylenorm.cli_video import Reel
from stylenorm.errors import StylenormError, counted, how_to_install
from stylenorm.formats import FILMS
from stylenorm.jobs import Job, left_out, make_folder, plan

if TYPE_CHECKING:
    from PIL.Image import Image

    from stylenorm.steady import Steady

SMALL = 256  # px, longer side of the copies of a film's frames in which its cuts are found

app = verbs()


@app.command(
    epilog="""\b
Examples:
  stylenorm mask photo.jpg -o mask.png
  stylenorm stylize photo.jpg --style kiss --keep mask.png -o painted.jpg
  stylenorm mask photos/ -o masks/
  stylenorm batch photos/ painted/ --style kiss --keep masks/
  stylenorm mask clip.gif -o clip-mask.png
  stylenorm mask clip.mp4 -o frames/
  stylenorm video clip.mp4 painted.mp4 --style kiss --keep frames/
"""
)
def mask(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO...", help="Photographs, or folders of them, or one film; - is standard input.")],
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="OUT", help="A picture file; a folder (there already, or ending in a slash); - is standard output."),
    ],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write where the people of photographs are: white on black, as --mask, --keep and --region take it.

    They find people by themselves (--keep people); this is for looking at what
    they find, and for correcting it with a picture editor. In a folder a mask
    has its photograph's name, and is a PNG. Of an animation it is a PNG that
    moves with it. Of a film there is one for each frame, numbered, in a folder
    of their own.
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
    from stylenorm.steady import SMOOTHING, Steady

    def animation():
        steady, survey = Steady(SMOOTHING, stride=1), Survey()

        def shown():
            for picture, duration, survey.plays in frames(job.source):
                survey.durations.append(duration)
                yield picture.rgb

        first = write_masks(job.target, people_in(shown(), steady), survey)
        for line in () if quiet else nobody_in(job.named, steady.somebody):
            complain(line)
        return first

    return row_of(job, animation)


def people_in(frames: Iterable[Image], steady: Steady) -> Iterator[Image]:
    """A mask for each frame of a film or an animation."""
    import numpy as np

    from stylenorm.tensors import fit

    for frame in frames:
        small = np.asarray(fit(frame, SMALL))
        steady.begin(small)  # behind a cut nobody is known
        found = steady.people(frame, again=False)
        steady.end(small)
        yield found


def film_masks(source: Path, output: str, quiet: bool, as_json: bool) -> None:
    """The masks of a film's frames, numbered from 1, into a new folder, or an empty one."""
    from stylenorm.images import write_picture
    from stylenorm.people import nobody_in
    from stylenorm.steady import SMOOTHING, Steady
    from stylenorm.video_files import frames, probe

    if not find_spec("av"):
        raise StylenormError(f"the frames of films take the package av: {how_to_install('video')}")
    film, folder = probe(source), Path(output)
    if output in ("", "-") or folder.is_file():
        raise StylenormError(f"the masks of {source} go to a folder, one for each frame; give one with -o")
    if folder.is_dir() and any(folder.iterdir()):
        raise StylenormError(f"{folder} holds something already, and masks are told by their numbers; give an empty folder, or a new one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StylenormError(f"the folder {folder} cannot be made ({error.strerror or error}); give another") from None
    show, steady, done, stop = Reel(quiet, as_lines=False), Steady(SMOOTHING, stride=1), 0, threading.Event()
    show.begin(film, "looking for people")
    with stopping(stop), show.bar():
        shown = takewhile(lambda _: not stop.is_set(), (frame for *_, frame in frames(film)))
        for done, found in enumerate(people_in((frame() for frame in shown), steady), 1):
            write_picture(found, folder / f"{done:06}.png")
            show.frame(done)
    if as_json:
        print(json.dumps([{"input": str(source), "output": str(folder), "frames": done, "finished": not stop.is_set(), "trouble": film.trouble}]))
    if stop.is_set():
        complain(f"stopped after {counted(done, 'frame')}; what is in {folder} is of these alone")
        raise typer.Exit(130)
    for line in () if quiet else nobody_in(source, steady.somebody):
        complain(line)
    show.say(f"{source} -> {folder} ({counted(done, 'mask')})")
    if film.trouble:
        complain(film.trouble)
        raise typer.Exit(1)
