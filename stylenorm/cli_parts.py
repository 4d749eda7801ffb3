"""What the verbs share: options, tables, complaints, and one photograph's way from file to file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from stylenorm.errors import ImageError
from stylenorm.jobs import Job

Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="What to compute on.")]
Backend = Annotated[
    Literal["auto", "torch", "openvino"], typer.Option(help="auto: OpenVINO on a CPU where it is installed, else torch.")
]
Weights = Annotated[
    Path | None, typer.Option(help="A folder with network.safetensors and styles/, or a network file; else the shipped ones.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def verbs() -> typer.Typer:
    """An empty set of verbs, for a module of the command line to fill."""
    return typer.Typer(rich_markup_mode="rich", add_completion=False, pretty_exceptions_enable=False)


def complain(message: object) -> None:
    print("stylenorm:", " ".join(str(message).split()), file=sys.stderr)


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


def show_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; as wide as it needs to be where nobody looks at it, and fitted to the terminal where somebody does."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 10_000
    Console(width=width, highlight=False, markup=False).print(table, no_wrap=bool(width))
