"""The verb that writes where people are, mask."""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from stylenorm.cli_parts import AsJson, Quiet, complain, do, told, verbs
from stylenorm.errors import StylenormError
from stylenorm.jobs import left_out, make_folder, plan

app = verbs()


@app.command(
    epilog="""\b
Examples:
  stylenorm mask photo.jpg -o mask.png
  stylenorm stylize photo.jpg --style kiss --keep mask.png -o painted.jpg
  stylenorm mask photos/ -o masks/
  stylenorm batch photos/ painted/ --style kiss --keep masks/
"""
)
def mask(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO...", help="Photographs, or folders of them; - is standard input.")],
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
    has its photograph's name, and is a PNG.
    """
    from stylenorm.people import NOBODY, any_in, find_people

    to_folder = not Path(output).suffix or output.endswith(("/", os.sep)) or Path(output).is_dir()
    jobs = plan(photos, output, "png" if to_folder else None, stills=True)
    if jobs[0].target is None and as_json:
        raise StylenormError("the picture and --json cannot both go to standard output; give -o FILE")
    make_folder(jobs)
    say = (lambda line: None) if quiet or as_json or jobs[0].target is None else print
    for line in () if quiet else left_out(photos):
        complain(line)
    rows = []
    for number, job in enumerate(jobs, 1):

        def find(picture, job=job):
            found = find_people(picture)
            if not (quiet or any_in(found)):
                complain(f"{job.named}: {NOBODY}")
            return found

        with redirect_stdout(sys.stderr) if jobs[0].target is None else nullcontext():  # whatever a library prints
            rows.append(row := do(job, find))
        if "error" in row:
            complain(row["error"])
        else:
            say((f"{number}/{len(jobs)} " if len(jobs) > 1 else "") + told(row))
    if as_json:
        print(json.dumps(rows, indent=2))
    if any("error" in row for row in rows):
        raise typer.Exit(1)
