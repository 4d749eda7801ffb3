"""What is done to one photograph of a batch, wherever it is done: read, encode, put in place, and the line that tells of it.

The order at the end is what makes a batch safe to kill: a painting lies under a draft's name, then its line goes into
the manifest, then it gets its name. At a URL it is put there whole, and its line follows.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path

from stylenorm.animation import frame_count, write_animation
from stylenorm.drafts import remove, replace, spare_read_only, write_draft
from stylenorm.encode import check_sides
from stylenorm.errors import OutputError, StylenormError, out_of_memory, reason_of
from stylenorm.formats import ANIMATABLE, ANIMATED
from stylenorm.images import Picture, opened, read_picture, write_picture
from stylenorm.jobs import FORMAT
from stylenorm.places import UrlFile, UrlFolder
from stylenorm.tensors import fitted
from stylenorm.tiffs import page_count
from stylenorm.tree import Photo

NO_MORE_ROOM = {errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)}
CANNOT_READ = (StylenormError, OSError, MemoryError)


class NoRoom(StylenormError):
    """Nothing more can be written: the disk is full, or has become read-only."""


@dataclass(frozen=True)
class Look:
    """A style to paint everything in. label: what people call it. folder: of its paintings, below the others'."""

    label: str
    folder: str


@dataclass(frozen=True)
class Task:
    """A photograph, and the paintings of it that are missing: (look, name below the folder of paintings)."""

    photo: Photo
    targets: tuple[tuple[Look, str], ...]


@dataclass(frozen=True)
class Moving:
    """An animation of which every frame is to be painted: its file, to be read twice, a frame at a time.

    format: what to write. size: of a frame, px. frames: how many are in memory at once.
    """

    data: bytes = field(repr=False)
    name: str
    format: str
    size: tuple[int, int]
    frames: int


@dataclass(frozen=True)
class Encoded:
    """A painting that is the bytes of a file already. size: width and height, px."""

    data: bytes = field(repr=False)
    size: tuple[int, int]


def read_photo(task: Task, size: int | None = None) -> tuple[Picture | Moving, dict]:
    """The photograph, decoded if it is to be a still, and what the manifest tells of its file. Raises one of `CANNOT_READ`.

    size: longer side of the paintings in px, else the photograph's: what their format cannot hold is not painted first.
    """
    started, photo = time.perf_counter(), task.photo
    data = photo.path.read_bytes()
    facts = {"input_sha256": hashlib.sha256(data).hexdigest(), "input_bytes": len(data)}
    picture = _moving(task, data) or read_picture(data, name=str(photo.path))
    if not isinstance(picture, Moving):
        format = FORMAT[os.path.splitext(task.targets[0][1])[1].lower()]
        check_sides(fitted(picture.size, size), format, str(photo.path), "give --size {longest} or less, or --format png")
    facts |= {"pages": pages} if (pages := page_count(data)) > 1 else {}
    avif = os.path.splitext(task.targets[0][1])[1].lower() == ".avif"  # which may move, and is not written moving
    facts |= {"frames": frames} if avif and (frames := frame_count(data)) > 1 else {}
    facts |= {"mask_sha256": photo.mask} if photo.mask else {}
    return picture, facts | {"input_changed": photo.changed, "read_seconds": since(started)}


def _moving(task: Task, data: bytes) -> Moving | None:
    suffix = os.path.splitext(task.targets[0][1])[1].lower()  # every look gives it the same name
    count = frame_count(data) if suffix in ANIMATABLE else 1
    if count < 2 and suffix not in ANIMATED:  # a GIF is always written as an animation
        return None
    name = str(task.photo.path)
    with opened(data, name) as image:
        return Moving(data, name, ANIMATABLE[suffix], image.size, count if ANIMATABLE[suffix] == "png" else 1)  # see write_png


def painted(stylizer, picture: Picture | Moving, path: Path | UrlFile, style, options: Mapping[str, object], quality: int):
    """What `encoded` takes. path: where the photograph lies, by which its mask is found. quality: of an animation, which is encoded as it is painted.

    options: of `Stylizer.stylize`, but for ``masks``, a `stylenorm.jobs.Masks`, in place of a mask, and in regions. Raises one of `CANNOT_READ`.
    """
    options = dict(options)
    regions, more = options.get("regions") or (), {}
    asked = [options.pop("masks", None), *(there for _, there in regions)]
    if any(asked):
        if isinstance(picture, Moving):
            from stylenorm.mattes import Mattes

            more["each"] = (mattes := Mattes(asked, path)).each
        own, *others = mattes.first() if more else [masks and masks.mask_for(path) for masks in asked]
        options |= {"mask": own} if asked[0] else {}
        options |= {"regions": [(over, there) for (over, _), there in zip(regions, others)]} if regions else {}
    if not isinstance(picture, Moving):
        return stylizer.stylize(picture, style, **options)
    streamed = {key: options[key] for key in ("strength", "preserve_color", "size", "grain", "paint_at", "mask", "regions", "faces") if key in options}

    def begin(fixed):
        return stylizer.stream(style, fixed=fixed, **streamed)

    strip = bool(options.get("strip"))
    first = write_animation(picture.data, file := BytesIO(), begin, picture.format, quality, strip, picture.name, options.get("notice"), **more)
    return Encoded(file.getvalue(), first.size)


def short_of_memory(error: BaseException) -> bool:
    """Whether painting failed for the photograph alone; of RuntimeErrors only want of memory is that, and what cannot be told is not."""
    return not isinstance(error, (RuntimeError, OutputError)) or out_of_memory(error)


def encoded(image, target: str, quality: int) -> bytes:
    """The file of a painting, in the format that its name says."""
    if isinstance(image, Encoded):
        return image.data
    buffer = _Named(target)
    write_picture(image, buffer, format=FORMAT[os.path.splitext(target)[1].lower()], quality=quality)
    return buffer.getvalue()


def stage(out: Path | UrlFolder, target: str, data: bytes) -> Path | None:
    """Write a painting where `publish` takes it from: a draft beside its place. At a URL it is in its place at once."""
    if isinstance(out, UrlFolder):
        (out / target).write_bytes(data)
        return None
    folder = (out / target).parent
    folder.mkdir(parents=True, exist_ok=True)
    spare_read_only(out / target)
    try:
        return write_draft(folder, data)
    except OSError as error:
        error.filename = str(out / target)  # nobody knows of drafts
        raise


def publish(out: Path | UrlFolder, target: str, draft: Path | None, note: Callable[[], None]) -> None:
    """Note a painting, then give it its name. The draft is gone after this, whatever happens."""
    if draft is None:
        return note()
    try:
        (out / target).unlink(missing_ok=True)  # or a kill right after the next line would leave an old one as if new
        note()
        replace(draft, out / target)
    finally:
        remove(draft)


def done_line(photo: Photo, look: Look, target: str, facts: dict, size: tuple[int, int], data: bytes, seconds: dict) -> dict:
    """The manifest's line for a painting. size: width and height. seconds: of painting and of writing."""
    return {
        "kind": "done",
        "style": look.label,
        "input": photo.name,
        "source": str(photo.path.absolute()),
        "output": target,
        **facts,
        "output_sha256": hashlib.sha256(data).hexdigest(),
        "output_bytes": len(data),
        "width": size[0],
        "height": size[1],
        **seconds,
        "time": now(),
    }


def failed_line(photo: Photo, look: Look, target: str, error: BaseException | str) -> dict:
    line = {"kind": "failed", "style": look.label, "input": photo.name, "output": target}
    return line | {"error": error if isinstance(error, str) else _in_words(photo, error), "time": now()}


def no_room(out: Path | UrlFolder, error: OSError) -> NoRoom:
    return NoRoom(f"{out} cannot be written any more ({reason_of(error)}); make room, then the same command goes on")


def _in_words(photo: Photo, error: BaseException) -> str:
    if isinstance(error, StylenormError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or photo.path}: {error.strerror or error}"
    return f"{photo.path} needs more memory than there is; make it smaller"


class _Named(BytesIO):
    """A file in memory that messages can name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def since(started: float) -> float:
    return round(time.perf_counter() - started, 4)


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
