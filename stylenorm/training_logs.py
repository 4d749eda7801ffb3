"""What a training run tells: a record a step, the table, TensorBoard, the loss curve and the sheet of samples."""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from stylenorm.data import RandomCrops
from stylenorm.drafts import remove, replace, spare_read_only
from stylenorm.errors import ImageError, StylenormError
from stylenorm.images import to_image, write_picture


@dataclass(frozen=True)
class Progress:
    """One step's record. Losses are means over the batch; speed is since the start of this process.

    gpu: with the last step, the name of the GPU; peak_share: the part of its bfloat16 FLOP/s that was used, in the
    later half of the run, or None if its peak is not known.
    """

    step: int
    steps: int
    content: float
    style: float
    total: float
    learning_rate: float
    images_per_second: float
    seconds_left: float
    broken: tuple[str, ...] = ()
    gpu: str | None = None
    peak_share: float | None = None


BOARD_SIDE = 4096  # px of a sheet in TensorBoard, at most: one of 30 styles would be 30 MB each time


class Logs:
    """loss.csv, one row a step, and the same and the sample sheets for TensorBoard in the folder tensorboard/.

    On resuming, rows past the checkpoint are dropped. folder: None writes nothing. tensorboard: as in `TrainConfig`.
    """

    FIELDS = ("step", "content", "style", "total", "learning_rate", "images_per_second")

    def __init__(self, folder: Path | None, step: int, tensorboard: str = "off") -> None:
        self.file = self.board = None
        if folder is None:
            return
        self.board = _board(folder / "tensorboard", step, tensorboard)
        path = folder / "loss.csv"
        rows = _rows(path, step, len(self.FIELDS)) if step and path.exists() else []
        with _whole(path) as temporary, open(temporary, "w", newline="") as file:
            csv.writer(file).writerows([self.FIELDS, *rows])
        self.file = open(path, "a", newline="", buffering=1)  # a killed run leaves whole lines
        self.writer = csv.DictWriter(self.file, self.FIELDS)

    def write(self, record: Progress) -> None:
        if self.file:
            self.writer.writerow({k: f"{getattr(record, k):.6g}" for k in self.FIELDS} | {"step": record.step})
        if self.board:
            for key in self.FIELDS[1:]:
                self.board.add_scalar(key, getattr(record, key), record.step)

    def picture(self, path: Path, step: int) -> None:
        if self.board:
            with Image.open(path) as image:
                image.thumbnail((BOARD_SIDE, BOARD_SIDE))  # the file has it in full
                self.board.add_image("samples", np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, *_) -> None:
        for log in (self.file, self.board):
            if log:
                log.close()


def _rows(path: Path, step: int, count: int) -> list[list[str]]:
    """The rows of a table, ``count`` numbers each, up to ``step``. A machine that lost its power may have left anything in it."""
    rows = [line.split(",") for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    return [row for row in rows if len(row) == count and all(map(_is_number, row)) and float(row[0]) <= step]


def _is_number(text: str) -> bool:
    with suppress(ValueError):
        return math.isfinite(float(text))
    return False


def _board(folder: Path, step: int, wanted: str):
    """TensorBoard's writer, or None where it is off or, unless it is asked for, cannot be had."""
    if wanted == "off":
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        if wanted == "auto":
            return None
        raise StylenormError("TensorBoard is not installed; pip install tensorboard, or leave --tensorboard out") from None
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        named = str(folder).encode(errors="backslashreplace").decode()  # so that logs can hold it
        told = f"TensorBoard cannot write into {named}, whose name is no UTF-8"
        if wanted == "on":
            raise StylenormError(f"{told}; give another --out, or leave --tensorboard out") from None
        logging.getLogger("stylenorm").warning("stylenorm: %s; the training goes on without its logs", told)
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)


class Clock:
    """Steps a second since it was made, and in the later half of them, which knows of no warming up."""

    def __init__(self) -> None:
        self.times = [time.perf_counter()]  # `time.monotonic` stands still for 16 ms on Windows, before Python 3.13

    def tick(self) -> None:
        self.times.append(time.perf_counter())

    def speed(self) -> float:
        return (len(self.times) - 1) / (self.times[-1] - self.times[0])

    def late_speed(self) -> float:
        middle = (len(self.times) - 1) // 2
        return (len(self.times) - 1 - middle) / (self.times[-1] - self.times[middle])


@torch.no_grad()
def draw_sheet(
    path: Path, paint: Callable[[Tensor, Tensor], Tensor], crops: RandomCrops, flats: Sequence[Tensor], names: Sequence[str],
    photos: int, what: str = "photograph",
) -> None:
    """The first ``photos`` of the crops in every style, (1, 2, T) each; those that have no name are paintings'.

    paint: what paints crops (N, 3, H, W), on the styles' device, in a style. what: the crops are of.
    """
    from stylenorm.plots import sheet

    photos = min(photos, len(crops.files))
    pictures = torch.stack([crops[i].pixels for i in range(photos)])
    pictures = pictures.to(flats[0].device) if flats else pictures
    rows = [paint(pictures, flat) for flat in flats]
    border = (pictures.shape[-1] - rows[0].shape[-1]) // 2 if rows else 0  # which is there to be painted, and not shown
    rows.insert(0, F.pad(pictures, (-border,) * 4))
    labels = [what, *names] + ["a painting"] * (len(flats) - len(names))
    tiles = [to_image(row[i]) for i in range(photos) for row in rows]
    with unless_held(path):
        write_picture(sheet(tiles, labels * photos, columns=len(rows)), path)


def draw_curve(folder: Path) -> None:
    """loss.png from loss.csv."""
    from stylenorm.plots import loss_curve

    path = folder / "loss.png"
    with unless_held(path), _whole(path) as temporary:
        loss_curve(folder / "loss.csv", temporary)


@contextmanager
def unless_held(path: Path) -> Iterator[None]:
    """A picture that may not be replaced stays as it is: on Windows somebody is looking at it, and that is to end no training."""
    try:
        yield
    except (ImageError, PermissionError) as error:
        if not isinstance(error.__cause__ or error, PermissionError) or not path.exists():
            raise
        told = "%s stays as it is, for it cannot be replaced; another program may have it open"
        logging.getLogger("stylenorm").warning(f"stylenorm: {told}", path)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A disk that is full, or gone, told in one sentence."""
    try:
        yield
    except OSError as error:
        raise StylenormError(f"{error.filename or folder} cannot be written: {error.strerror or error}") from None


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A name to write to; it becomes ``path`` when the block ends well, and goes away when it does not."""
    spare_read_only(path)
    temporary = path.with_name(f".{path.name}")  # its suffix tells matplotlib the format
    try:
        yield temporary
        replace(temporary, path)
    except OSError as error:
        if str(error.filename) == str(temporary):
            error.filename, error.filename2 = str(path), None  # nobody knows of drafts
        raise
    finally:
        remove(temporary)

