"""A film painted at one go, or part by part, so that a run that is stopped at any moment goes on from its last whole part.

Of `paint_video` the parts, the stream's state after each and a manifest lie in a folder beside the output; they are joined with the
sound in the end, and the folder is removed. A part always has the same frames, whoever stopped when, so that an
interrupted run and an uninterrupted one write the same file.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from numbers import Real
from pathlib import Path

import numpy as np
from PIL import Image

from stylenorm.drafts import DAY, OURS, SUFFIX, draft_of, file_id, remove, remove_drafts, write_whole
from stylenorm.errors import FilmError, StylenormError, in_short, path_of, reason_of
from stylenorm.formats import PHOTOGRAPHS
from stylenorm.manifest import Manifest
from stylenorm.mattes import Matte, with_each
from stylenorm.people import is_word, nobody_in
from stylenorm.steady import Stream
from stylenorm.video_files import ALL, PICTURES, Film, Part, check_place, container_of, frames, join, keeps_aspect, picture_box, probe, told_if_held, wants_even

CRF = 18  # of the encoder: less is better and larger
STRETCHED = 4  # times as wide as high, or as high as wide, no pixel is; a damaged file may say so
PART = 50  # frames of a part, which is what a kill may lose


@dataclass
class Report:
    """What came of a run. frames: painted so far, of which ``kept`` by earlier runs. finished: the output is there."""

    frames: int = 0
    kept: int = 0
    cuts: int = 0
    finished: bool = False
    notes: list[str] = field(default_factory=list)


def parts_folder(target: Path) -> Path:
    return target.with_name(target.name + ".parts")


def paint_film(
    source: str | Path | Film,
    target: str | Path,
    stream: Stream,
    crf: int = CRF,
    should_stop: Callable[[], bool] = lambda: False,
    tell: Callable[[int, Image.Image, Image.Image], None] = lambda frames, frame, painted: None,
    mask: str | Path | Matte | None = None,
) -> Report:
    """Paint a film at one go, with its sound: ``paint_film("in.mp4", "out.mp4", stylizer.stream("kiss"))``. Black bars stay as they are.

    source: a path, or what `stylenorm.video_files.probe` found there. target: a .mp4, .m4v, .mov, .mkv or .webm file, which appears
    whole. stream: a fresh one. should_stop: asked before each frame; ``target`` then ends there, and the report is not ``finished``. tell:
    called with the number of frames so far, the latest of them and its painting. mask: where to paint, one that moves, a film or
    an animation as long or a folder of numbered pictures; one that does not is the stream's. crf: of the encoder, from 0 to 51; less is better, and a larger file. Raises `StylenormError`.
    """
    if not isinstance(stream, Stream):
        raise StylenormError(f"a film is painted by what Stylizer.stream returns, which {in_short(stream)} is not")
    if not isinstance(crf, Real) or not 0 <= crf <= 51:
        raise StylenormError(f"crf is a number from 0 to 51, less is better, and not {in_short(crf)}")
    target = path_of(target, "the painted film")
    film = source if isinstance(source, Film) else probe(path_of(source, "a film"))
    inputs = [film.path, mask] if isinstance(mask, (str, Path)) else [film.path]
    if target.exists() and any(Path(path).exists() and file_id(path) == file_id(target) for path in inputs):
        raise StylenormError(f"{target} is an input and would be overwritten; give another name")
    masked = _masks([] if mask is None else [_matte(mask)], film)
    shape(stream, film, target)
    report = write_film(film, target, lambda frame: stream(frame, **next(masked)), crf, should_stop, tell)
    report.cuts = stream.steady.cuts
    report.notes += nobody_in(film.path, stream.steady.somebody) if report.frames else []
    return report


def write_film(
    film: Film,
    target: Path,
    paint: Callable[[Image.Image], Image.Image],
    crf: int = CRF,
    should_stop: Callable[[], bool] = lambda: False,
    tell: Callable[[int, Image.Image, Image.Image], None] = lambda frames, frame, painted: None,
    silent: bool = False,
) -> Report:
    """``paint`` each frame, an "RGB" image, and write the film ``target``. The other arguments as in `paint_film`. silent: pictures alone."""
    report, part, stamp, duration, until = Report(), None, 0, 0, math.inf
    codec = container_of(target)[1]
    check_place(target)
    remove_drafts(target.absolute().parent, age=DAY)
    with _folder_beside(target) as folder:
        encoded = Path(folder, _part_name(0))
        try:
            for now, lasts, frame in frames(film):
                if should_stop():
                    duration, until = now - stamp, float(now * film.clock)
                    break
                painted = paint(seen := frame())
                part = part or Part(encoded, film, codec, crf, painted.size)
                part.add(painted, now)
                stamp, duration = now, lasts
                report.frames += 1
                tell(report.frames, seen, painted)
        except BaseException:
            if part:
                part.close(whole=False)
            raise
        report.finished = until == math.inf
        if part:
            part.close(whole=True)
            with told_if_held(target), draft_of(target) as draft:
                report.notes = join([encoded], film, draft, target, duration, until, PICTURES if silent else ALL)
        elif report.finished:
            raise FilmError(f"{film.path} holds no frame that can be read; get a whole copy")
    return report


def shape(stream: Stream, film: Film, target: Path) -> None:
    """Have the paintings as large as the encoder wants them, and black bars left as they are."""
    stream.even, stream.box = wants_even(container_of(target)[1]), None if stream.of_regions else picture_box(film)
    stream.aspect = film.aspect if written_square(film, target) else 1


def written_square(film: Film, target: Path) -> bool:
    """Whether its pixels are not square, and become so."""
    return not keeps_aspect(container_of(target)[1]) and film.aspect != 1 and 1 / STRETCHED <= film.aspect <= STRETCHED


def _matte(mask: str | Path | Matte) -> Matte:
    if isinstance(mask, Matte):
        return mask
    path = path_of(mask, "a mask that moves")
    try:
        return Matte(path)
    except StylenormError:
        if not is_word(mask) and path.suffix.lower() not in PHOTOGRAPHS:
            raise
    raise StylenormError(f"the mask {path} does not move; give it to Stylizer.stream")


def _folder_beside(target: Path) -> tempfile.TemporaryDirectory:
    try:
        # After an error a generator may still have the part open, which Windows then lets nobody remove: the error is to be told, and not that.
        return tempfile.TemporaryDirectory(prefix=OURS, suffix=SUFFIX, dir=target.absolute().parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise StylenormError(f"{target} cannot be written ({reason_of(error)}); try another place") from None


def paint_video(
    film: Film,
    target: Path,
    stream,
    manifest: Manifest,
    crf: int,
    stop: threading.Event,
    tell: Callable[[int], None] = lambda frames: None,
    length: int | None = None,
    mattes: Sequence[Matte | None] = (),
) -> Report:
    """Paint what is missing, and join it all to ``target`` unless ``stop`` was set before the end.

    stream: a fresh `stylenorm.steady.Stream`. manifest: open, in `parts_folder`, begun with this film's settings.
    tell: called with the number of frames that are painted, after each. length: frames of a part. mattes: masks that
    move, in place of the stream's and then of each of its layers'; None where its own one stands.
    """
    length = length or PART
    folder, codec = parts_folder(target), container_of(target)[1]
    shape(stream, film, target)
    remove_drafts(folder)
    remove_drafts(target.absolute().parent, age=DAY)
    done = list(_whole_parts(manifest, folder))
    report = Report(kept=sum(line["frames"] for line in done))
    report.frames = report.kept
    if done:
        report.cuts = done[-1]["cuts"]
        with np.load(folder / _state_name(len(done) - 1)) as state:
            stream.restore(state)
    tell(report.frames)
    reader = frames(film)
    masked = _masks(mattes, film, report.kept)
    for _ in islice(reader, report.kept):  # decoded and passed over, which is exact and quick beside painting
        if stop.is_set():
            return report
    ended = False
    while not ended:
        try:
            into = folder, (codec, crf), length
            line = _paint_part(len(done), film, reader, masked, stream, *into, stop, lambda n: tell(report.frames + n))
        except _Stopped:
            return report
        report.cuts, ended = report.cuts + line["cuts"], line["frames"] < length
        if line["frames"]:
            manifest.append(line | {"cuts": report.cuts})
            if done:
                remove(folder / _state_name(len(done) - 1))  # if it can be: on Windows it may be looked into, for viruses or words
            done.append(line)
            report.frames += line["frames"]
    if not done:
        raise FilmError(f"{film.path} holds no frame that can be read; get a whole copy")
    with told_if_held(target), draft_of(target) as draft:
        notes = join([folder / line["output"] for line in done], film, draft, target, done[-1]["last_duration"])
        seen = [line.get("people") for line in done]  # None as well where a version before has painted
        report.notes = notes + nobody_in(film.path, None if None in seen else any(seen))
    manifest.close()
    shutil.rmtree(folder, ignore_errors=True)
    report.finished = True
    return report


class _Stopped(Exception):
    """In the middle of a part, which is then thrown away."""


def _paint_part(number, film, reader: Iterator, masked: Iterator, stream, folder: Path, encoder, length: int, stop, tell) -> dict:
    """Encode the next frames into a part, and keep the stream's state beside it. Returns the manifest's line."""
    name, count, duration, part = _part_name(number), 0, 0, None
    stream.steady.cuts = 0
    with draft_of(folder / name) as draft:
        try:
            for stamp, duration, frame in islice(reader, length):
                if stop.is_set():
                    raise _Stopped
                painted = stream(frame(), **next(masked))
                part = part or Part(draft, film, *encoder, painted.size)
                part.add(painted, stamp)
                count += 1
                tell(count)
        except BaseException:
            if part:
                part.close(whole=False)
            raise
        if part:
            part.close(whole=True)
        else:
            draft.touch()
        np.savez(buffer := io.BytesIO(), **stream.state)
        write_whole(folder / _state_name(number), buffer.getvalue())
    line = {"kind": "done", "style": "", "input": name, "output": name, "input_bytes": 0, "input_changed": 0}
    line["bytes"], line["state_bytes"] = (_on_the_disk(folder / file) for file in (name, _state_name(number)))
    return line | {"frames": count, "last_duration": duration, "cuts": stream.steady.cuts, "people": stream.steady.somebody}


def _on_the_disk(path: Path) -> int:
    """Its bytes, once a power cut leaves them there."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    return path.stat().st_size


def _masks(mattes: Sequence[Matte | None], film: Film, first: int = 0) -> Iterator[dict]:
    """What a stream is given with each frame from ``first`` on."""
    for matte in filter(None, mattes):
        matte.check_length(film.path, film.frames)
    return with_each(mattes, first)


def _part_name(number: int) -> str:
    return f"{number:05}.nut"


def _state_name(number: int) -> str:
    return f"{number:05}.npz"


def _whole_parts(manifest: Manifest, folder: Path) -> Iterator[dict]:
    """The parts in their order, as far as they are there and what comes after them can be painted."""
    lines = {line["input"]: line for line in manifest.done.values()}
    found = []
    for number in range(len(lines)):
        line = lines.get(_part_name(number))
        if line is None or not _is_whole(folder / line["output"], line.get("bytes")):
            break
        found.append(line)
    return iter(found if not found or _is_whole(folder / _state_name(len(found) - 1), found[-1].get("state_bytes")) else [])


def _is_whole(path: Path, size: int | None) -> bool:
    """Whether it is there and of that many bytes, or of some where an earlier version has not noted how many."""
    return path.is_file() and (path.stat().st_size == size if size is not None else path.stat().st_size > 0)
