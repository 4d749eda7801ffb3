"""What the verbs share: options and their checks, tables, complaints, and one photograph's way from file to file."""

from __future__ import annotations

import json
import errno
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from stylenorm.catalog import style_entries
from stylenorm.compat import import_torch
from stylenorm.drafts import reach
from stylenorm.errors import ImageError, NobodyReads, OutputError, StyleError, StylenormError, as_word, one_line, out_of_memory, reason_of
from stylenorm.formats import FULL
from stylenorm.jobs import Job, Masks

ON_WINDOWS = os.name == "nt"


def path(text: str | Path) -> Path:
    """The parser of options that name a folder; --help shows its name."""
    if not str(text):  # which would be the folder that one is in
        raise typer.BadParameter("it is empty; give a folder")
    return Path(text)


Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="What to compute on.")]
Backend = Annotated[
    Literal["auto", "torch", "openvino", "openvino-int8"],
    typer.Option(
        help="auto: OpenVINO on a CPU where it is installed, in 8 bits if the CPU has no bfloat16; else torch. "
        "8 bits are quickest and a little less faithful."
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(parser=path, help="A folder with network.safetensors and styles/, or a network file; else the shipped ones."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]


def _is_number(name: str) -> Callable:
    def check(value: float | None) -> float | None:
        if value is not None and math.isnan(value):  # which is neither below nor above anything
            raise StylenormError(f"the {name} must be a number")
        return value

    return check


Memory = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="GB",
        callback=_is_number("memory"),
        help="Most memory that painting a picture may take, else half of what is free. What would take more is painted in strips.",
    ),
]


def _side_or_full(text: str | int) -> int | str:
    """The parser of --paint-at."""
    if text == FULL:
        return FULL
    if not str(text).isdecimal() or not 16 <= int(text) <= 30000:
        raise typer.BadParameter(f"{text!r} is neither {FULL} nor a number of pixels from 16 to 30000.")
    return int(text)


# How photographs are painted, by every verb that paints them.
Strength = Annotated[float, typer.Option(min=0, max=1, callback=_is_number("strength"), help="0 is the photograph, 1 the painting.")]
PreserveColor = Annotated[bool, typer.Option("--preserve-color", help="Keep the photograph's colours.")]
Grain = Annotated[
    bool, typer.Option("--grain/--no-grain", help="Paint plain ground, such as a drawing's or a cloudless sky, like all else.")
]
Size = Annotated[
    int | None, typer.Option(min=16, max=30000, metavar="PX", help="Longer side of the result, else the photograph's.")
]
PaintAt = Annotated[
    str | None,
    typer.Option(
        parser=_side_or_full, metavar="PX|full",
        help="Longer side to paint at: less is larger strokes. Else the result's, of 1.2 megapixels at most; full: every pixel of it.",
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(
        metavar="MASK",
        help="Paint only where this picture is white, or a cut-out is opaque. A folder has one for each input, called like it. "
        "Or people, or background, which are found in each.",
    ),
]
Keep = Annotated[str | None, typer.Option(metavar="MASK", help="The other way round: what is there stays as it is.")]
RegionsOf = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MASK=STYLE",
        help="A style, or a file of a painting, for where a mask is white; --style for the rest. May be repeated: the last one lies on top.",
    ),
]
Faces = Annotated[
    float,
    typer.Option(
        min=0, max=1, callback=_is_number("amount of --faces"),
        help="How much of the features of people's faces is kept where strokes would go across them; 0: none.",
    ),
]
StyleSize = Annotated[
    int | None,
    typer.Option(min=32, max=2048, metavar="PX", help="Shorter side that paintings are read at, else 384: less is coarser strokes."),
]
Quality = Annotated[int, typer.Option(min=1, max=100, help="Of JPEG, WebP, AVIF and HEIC.")]
Strip = Annotated[
    bool, typer.Option("--strip", help="Leave out EXIF, XMP, IPTC, GPS and all else that tells of the photographer; colours stay.")
]


def need_a_style(given: Sequence, weights: Path | None) -> None:
    """Refuse to paint in no style at all, and name some."""
    if given:
        return
    known = [entry.name for entry in style_entries(weights)]
    more = ", ..." if len(known) > 6 else ""
    raise StyleError(f"give --style NAME, one of {', '.join(known[:6]) or 'none'}{more}, or --style-image PAINTING")


def masks_of(mask: str | None, keep: str | None) -> Masks | None:
    """What --mask or --keep asks for."""
    if mask is not None and keep is not None:
        raise StylenormError("--mask and --keep say the same, one the other way round; give one of them")
    return Masks.of(mask, "--mask") if mask is not None else Masks.of(keep, "--keep", inverted=True) if keep is not None else None


def style_names(context: typer.Context, incomplete: str) -> list[str]:
    """What a shell completes NAME:W,... to: the last of its names."""
    before, comma, begun = incomplete.rpartition(",")
    return [before + comma + name for name in names_known(context.params.get("weights")) if name.startswith(begun)]


def names_known(weights: Path | None) -> list[str]:
    """The styles that a shell can be told of: none where that goes wrong, and none that would need quotes."""
    level = logging.root.manager.disable
    logging.disable()  # what it tells of files would stand in the middle of the line that is typed
    try:
        known = [entry.name for entry in style_entries(weights)]
    except StylenormError:
        return []
    finally:
        logging.disable(level)
    return [name for name in known if as_word(name) == name]


def check_file(path: Path, what: str) -> None:
    """Refuse what is no file, which is read more than once."""
    if path.is_dir():
        raise StylenormError(f"{path} is a folder; give the picture of a {what} in it")
    if not path.is_file():
        reach(path)
        told = "is a pipe or a device" if path.exists() else "does not exist"
        raise StylenormError(f"the {what} {path} {told}; give a file")


def check_style_size(size: int | None, paintings: Sequence) -> None:
    """Refuse a size to read paintings at where there are none: it would change nothing."""
    if size is not None and not paintings:
        raise StyleError("--style-size is for paintings, and named styles are past reading; give one with --style-image, or leave it out")


def verbs() -> typer.Typer:
    """An empty set of verbs, for a module of the command line to fill."""
    return typer.Typer(rich_markup_mode="rich", add_completion=False, pretty_exceptions_enable=False)


def complain(message: object) -> None:
    with suppress(OSError):  # a full disk behind it is no reason to stop
        print("stylenorm:", one_line(" ".join(filter(None, map(str.strip, str(message).splitlines())))), file=sys.stderr)


def write_out(data: bytes) -> None:
    """Send a file to standard output, all of it. Raises as `of_stdout`."""
    rest = memoryview(data)
    with of_stdout():
        while rest:  # where Python does not buffer it, a full disk takes a part and says nothing
            rest = rest[sys.__stdout__.buffer.write(rest) :]
        sys.__stdout__.buffer.flush()


class Out:
    """Standard output, but that it raises as `of_stdout`: a full disk behind it is known from one that a file is written to."""

    def __init__(self, stream) -> None:
        self._stream = stream

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with of_stdout():
            return self._stream.write(text)

    def flush(self) -> None:
        with of_stdout():
            self._stream.flush()


@contextmanager
def of_stdout() -> Iterator[None]:
    """What is written inside goes to standard output. Raises `OutputError`."""
    try:
        yield
    except OSError as error:
        if has_gone(error):
            raise NobodyReads("nobody reads standard output any more") from None
        raise OutputError(f"standard output cannot be written ({reason_of(error)}); send it to another place") from None


def has_gone(error: OSError) -> bool:
    """Whether who read standard output has gone; Windows calls it an invalid argument (https://github.com/python/cpython/issues/79935)."""
    return isinstance(error, BrokenPipeError) or (ON_WINDOWS and error.errno == errno.EINVAL)


def check_fits(
    job: Job, size: tuple[int, int], longer: int | None = None, advice: str = "give --size {longest} or less, or write a PNG"
) -> None:
    """Refuse, before it is painted, what the job's format cannot hold: a picture of that width and height, brought to ``longer`` px.

    advice: as of `stylenorm.encode.check_sides`.
    """
    from stylenorm.encode import check_sides
    from stylenorm.tensors import fitted

    check_sides(fitted(size, longer), job.written, str(job.target or "standard output"), advice)


def check_sheet(job: Job, photo: tuple[int, int], tile: int, count: int, columns: int, more: str = "") -> None:
    """The same of a sheet of ``count`` pictures, each of the photograph's proportions and ``tile`` px long. more: advice beside that."""
    from stylenorm.encode import longest_side
    from stylenorm.plots import largest_tile, sheet_size
    from stylenorm.tensors import fitted

    size = sheet_size(fitted(photo, tile), count, columns)
    longest = longest_side(size, job.written)
    most = largest_tile(photo, count, columns, longest) if longest < math.inf else 0
    check_fits(job, size, advice=f"give --tile {most} or less, {more}or write a PNG")


def do(job: Job, work: Callable, quality: int = 95, look: Callable = lambda source: None) -> dict[str, Any]:
    """Read the job's photograph, do ``work`` on it, write the result; what came of it as a row of --json.

    look: called with what it was read from, a path or the bytes of a pipe.
    """
    from stylenorm.images import read_picture, write_picture

    def photograph():
        source = sys.stdin.buffer.read() if job.source is None else job.source.read_bytes() if job.source.is_fifo() else job.source
        picture = read_picture(source, name=job.named)
        look(source)
        del source
        image = work(picture)
        if job.target is None:
            write_picture(image, buffer := BytesIO(), format=job.format, quality=quality)
            write_out(buffer.getvalue())
        else:
            write_picture(image, job.target, format=job.format, quality=quality)
        return image

    return row_of(job, photograph)


def do_moving(
    job: Job, begin: Callable, masks: Sequence[Masks | None], quality: int = 95, strip: bool = False, notice: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """`do` for an animation. begin: what `stylenorm.animation.paint_animation` takes, with a mask for each of ``masks`` after it."""
    from stylenorm.animation import paint_animation

    def animation():
        more = {}
        if any(masks):
            from stylenorm.mattes import Mattes

            more["each"] = (mattes := Mattes(masks, job.source)).each
        there = mattes.first() if more else masks
        return paint_animation(job.source, job.target, lambda fixed: begin(fixed, *there), job.format, quality, strip, notice, **more)

    return row_of(job, animation)


def stylizer_of(weights: Path | None, device: str, backend: str, memory: float | None = None):
    """A `Stylizer`, for which torch is imported."""
    import_torch()
    from stylenorm.engine import Stylizer

    return Stylizer(weights, device=device, backend=backend, memory=memory)


def lean_stylizer(weights: Path | None, device: str, backend: str, memory: float | None = None, predicts: bool = False, faces: bool = False):
    """The same without torch, where it is not needed: importing it takes longer than painting. predicts, faces: as for `PlainStylizer`."""
    from stylenorm.plain import plain_stylizer

    with_torch = partial(stylizer_of, weights, device, backend, memory)
    return plain_stylizer(weights, device, backend, memory, with_torch, predicts, faces) or with_torch()


def row_of(job: Job, work: Callable) -> dict[str, Any]:
    """Do the work, which returns the picture that was written, and tell of it, or of what went wrong, in a row of --json."""
    started = time.perf_counter()
    row = {"input": str(job.source or "-"), "output": None, "width": None, "height": None, "seconds": None}
    try:
        image = work()
    except OutputError:
        raise
    except (ImageError, OSError) as error:
        return row | {"error": str(error)}
    except StyleError as error:  # of a mask for this photograph
        return row | {"error": f"{job.named}: {error}"}
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return row | {"error": f"{row['input']} needs more memory than there is; make it smaller"}
    seconds = round(time.perf_counter() - started, 3)
    return row | {"output": str(job.target or "-"), "width": image.width, "height": image.height, "seconds": seconds}


def told(row: dict[str, Any]) -> str:
    return f"{one_line(row['input'])} -> {one_line(row['output'])} ({row['width']} x {row['height']}, {row['seconds']:.2f} s)"


def tell_row(row: dict[str, Any], number: int, count: int, say: Callable[[str], None]) -> None:
    """Say what came of the job of that number, of ``count``."""
    if "error" in row:
        complain(row["error"])
    else:
        say((f"{number}/{count} " if count > 1 else "") + told(row))


def end_with(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Print the rows of --json, and exit with 1 if anything failed."""
    if as_json:
        print(json.dumps(rows, indent=2))
    if any("error" in row for row in rows):
        raise typer.Exit(1)


def show_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; as wide as it needs to be where nobody looks at it, and fitted to the terminal where somebody does.

    The first column holds names, which people type: nothing of them is cut off, and they stay in one line if that takes
    no more than half of the terminal.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(one_line, row))
    width = None if sys.stdout and sys.stdout.isatty() else 10_000
    console = Console(width=width, highlight=False, markup=False)
    names = table.columns[0]
    names.overflow, names.no_wrap = "fold", 2 * max(len(row[0]) for row in (head, *rows)) <= console.width
    console.print(table, no_wrap=bool(width))
