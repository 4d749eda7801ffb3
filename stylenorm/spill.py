"""What is too large for the memory, in temporary files: feature maps, read and written in rows, and frames.

A file has no name, or loses it with the process, so that nothing is left behind after an error, Ctrl-C or a kill.
It is read and written, not mapped into memory: pages of it count as the system's cache and not as the process's.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stylenorm.errors import ImageError

IN_MEMORY = 128 << 20  # bytes of maps, together, that are no trouble to keep in memory
MARGIN = 64 << 20  # bytes of disk to leave to others


class Spill:
    """Keeps maps (1, C, H, W) of float32; use it in a ``with`` block, at whose end all of them are gone.

    folder: where, by default `spill_folder`. in_memory: bytes of maps that stay in memory, the others go to disk.
    dry: keep nothing and count only. ``disk`` and ``peak`` are the bytes on disk now and at most so far.

    Raises `ImageError` where the disk is full.
    """

    def __init__(self, folder: Path | None = None, in_memory: int = IN_MEMORY, dry: bool = False) -> None:
        self.folder, self.in_memory, self.dry = folder or spill_folder(), in_memory, dry
        self.memory = self.disk = self.peak = 0
        self._kept: list[Kept] = []

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *trouble) -> None:
        for kept in list(self._kept):
            self.free(kept)

    def new(self, shape: tuple[int, int, int]) -> Kept:
        """Room for a map of ``shape``, (C, H, W)."""
        kept = Kept(shape, self.folder)
        if self.memory + kept.bytes <= self.in_memory:
            self.memory += kept.bytes
            kept.file = None if self.dry else BytesIO()
        else:
            kept.on_disk = True
            self.disk += kept.bytes
            self.peak = max(self.peak, self.disk)
            kept.file = None if self.dry else _unnamed(self.folder)
        self._kept.append(kept)
        return kept

    def free(self, kept: Kept) -> None:
        if kept.on_disk:
            self.disk -= kept.bytes
        else:
            self.memory -= kept.bytes
        self._kept.remove(kept)
        if kept.file is not None:
            kept.discard()


class Kept:
    """One map. Rows lie one after another, each (W, C), so that a strip of them is one piece of the file."""

    def __init__(self, shape: tuple[int, int, int], folder: Path) -> None:
        self.shape, self.folder, self.on_disk, self.file = shape, folder, False, None
        channels, height, width = shape
        self.row = 4 * channels * width
        self.bytes = self.row * height

    def read(self, first: int, last: int) -> Tensor:
        """Rows ``first`` to ``last`` (not included) as (1, C, rows, W), channels-last."""
        channels, _, width = self.shape
        strip = np.empty((last - first, width, channels), np.float32)
        self.file.seek(first * self.row)
        if self.file.readinto(strip.data.cast("B")) != strip.nbytes:
            raise ImageError(f"a temporary file in {self.folder} was cut short; paint the picture again")
        return torch.from_numpy(strip).permute(2, 0, 1)[None]

    def write(self, first: int, strip: Tensor) -> None:
        """Put rows (1, C, rows, W) in their place, from row ``first`` on."""
        rows = strip[0].permute(1, 2, 0).float().contiguous().cpu().numpy()  # rows, W, C
        try:
            self.file.seek(first * self.row)
            self.file.write(rows.data.cast("B"))
        except OSError as error:
            raise _full(self.folder, error) from None

    def discard(self) -> None:
        _close(self.file)
        self.file = None


class Frames(Sequence):
    """Pictures of one size and mode, `add`ed one after another; use it in a ``with`` block, at whose end they are gone.

    Raises `ImageError` where the disk is full.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder, self.count = folder or spill_folder(), 0
        self._file = _unnamed(self.folder)

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *trouble) -> None:
        _close(self._file)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Image.Image:
        if not 0 <= number < self.count:
            raise IndexError(number)
        self._file.seek(number * self._bytes)
        return Image.frombytes(self._mode, self._size, self._file.read(self._bytes))

    def add(self, frame: Image.Image) -> None:
        data = frame.tobytes()
        self._mode, self._size, self._bytes = frame.mode, frame.size, len(data)
        try:
            self._file.seek(self.count * self._bytes)
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise _full(self.folder, error) from None
        self.count += 1


def _full(folder: Path, error: OSError) -> ImageError:
    return ImageError(
        f"the disk became full or failed while painting ({error.strerror or error}); "
        f"make room in {folder}, or set TMPDIR to another folder"
    )


def _close(file) -> None:
    with suppress(OSError):  # what a full disk did not take is tried once more, in vain
        file.close()


def _unnamed(folder: Path):
    try:
        return tempfile.TemporaryFile(prefix="stylenorm-", dir=folder)
    except OSError as error:
        raise ImageError(f"no temporary file can be made in {folder} ({error.strerror}); set TMPDIR to another folder") from None


def spill_folder() -> Path:
    """$TMPDIR, or else /var/tmp where there is one: in many systems /tmp is memory."""
    named = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    large = Path("/var/tmp")
    return large if not named and os.access(large, os.W_OK) else Path(tempfile.gettempdir())


def free_disk(folder: Path) -> int:
    """Bytes that a spill may take in ``folder``."""
    return max(0, shutil.disk_usage(folder).free - MARGIN)
