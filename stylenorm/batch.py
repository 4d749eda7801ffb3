"""Tens of thousands of photographs: what is still to do, and decoding, painting and encoding at the same time.

Threads read and decode ahead, the caller's thread paints, threads encode and write. Pillow and the network let go
of Python's lock while they work, so that all three go on at once and the slowest sets the pace. The queues
between them are bounded, and so is the memory. No torch is imported here: what paints is handed in.
"""

from __future__ import annotations

import hashlib
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from stylenorm.animation import frame_count
from stylenorm.batch_steps import (
    CANNOT_READ,
    NO_MORE_ROOM,
    Look,
    Moving,
    NoRoom,
    Task,
    done_line,
    encoded,
    failed_line,
    no_room,
    now,
    publish,
    read_photo,
    short_of_memory,
    since,
    stage,
)
from stylenorm.drafts import DAY, file_id, remove_drafts
from stylenorm.errors import StylenormError
from stylenorm.formats import ANIMATED, FORMAT, FULL
from stylenorm.images import Picture
from stylenorm.jobs import folded
from stylenorm.manifest import Manifest
from stylenorm.places import UrlFile, UrlFolder, exists
from stylenorm.tree import Photo, check_noted, check_targets, output_names

__all__ = ["Look", "NoRoom", "Plan", "Task", "default_workers", "differences", "make_plan", "now", "paint_all"]

PIXELS_AT_ONCE = 160_000_000  # decoded, painted or being written: about 1.3 GB


@dataclass
class Plan:
    """What is to do, how many paintings are there already, and which got another name than their photograph, with what has that name.

    strange: files with the name of a painting that no batch has noted. others: paintings, each with the photograph, of
    another folder, that it was made of. They are not painted over, and count as there.
    """

    tasks: list[Task] = field(default_factory=list)
    there: int = 0
    renamed: list[tuple[str, str, str]] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)

    @property
    def paintings(self) -> int:
        return sum(len(task.targets) for task in self.tasks)


def make_plan(
    top: Path | UrlFolder,
    out: Path | UrlFolder,
    photos: Sequence[Photo],
    looks: Sequence[Look],
    format: str,
    manifest: Manifest,
    again: bool = False,
    over: bool = False,
) -> Plan:
    """Which paintings are missing. again: all of them are, whatever is there.

    One is there if its file is, unless its photograph or its mask has changed since. After a batch that replaces what was
    there, only files that it has noted count. What was made of another folder's photograph, which is still in place,
    is there as well, but with ``over``.
    """
    _follow(photos, manifest)
    plan, known = Plan(), _earlier_names(manifest, looks)
    names = output_names(photos, format, known, _moving(photos, known) if format == "keep" else ())
    earlier = set(map(folded, known.values())) - set(map(folded, names.values()))
    for photo in photos:
        name = names[photo.name]
        stem, own = os.path.splitext(name)[0], os.path.splitext(photo.name)[0]
        if folded(stem) != folded(own):
            taken = folded(own + os.path.splitext(name)[1]) in earlier
            plan.renamed.append((photo.name, name, "a painting of an earlier photograph" if taken else "another photograph"))
        targets = [(look, f"{look.folder}/{name}".lstrip("/")) for look in looks]
        missing = tuple((k, t) for k, t in targets if again or not _is_there(out / t, manifest, k, photo, plan, over))
        plan.there += len(targets) - len(missing)
        plan.strange += [t for k, t in targets if (k, t) not in missing and (k.label, photo.name) not in manifest.done]
        if missing:
            plan.tasks.append(Task(photo, missing))
    folders = {os.path.dirname(f"{look.folder}/{name}".lstrip("/")) for look in looks for name in names.values()}
    if isinstance(out, UrlFolder):
        return plan
    if isinstance(top, Path):
        check_targets(top, out, folders, photos)
        check_noted(top, out, (target for task in plan.tasks for _, target in task.targets), manifest.noted)
    for folder in folders | {""}:
        remove_drafts(out / folder, growing=False)
        remove_drafts(out / folder, DAY)
    return plan


def _follow(photos: Sequence[Photo], manifest: Manifest) -> None:
    """Take what was noted of photographs that are gone for those whose names differ from theirs in case or composition alone."""
    present = {photo.name for photo in photos}
    labels, noted = ({key[i] for key in manifest.done} for i in (0, 1))
    gone, new = ({key: list(same) for key, same in groupby(sorted(found, key=folded), folded)} for found in (noted - present, present - noted))
    for one, other in ((gone[key], new[key]) for key in gone.keys() & new.keys()):
        for label in labels if len(one) == len(other) == 1 else ():
            if line := manifest.done.pop((label, *one), None):
                manifest.done[(label, *other)] = line


def _earlier_names(manifest: Manifest, looks: Sequence[Look]) -> dict[str, str]:
    """{photograph: name of its painting}, but for what somebody has changed to a name that no painting has."""
    folders = {look.label: look.folder for look in looks}
    return {
        name: line["output"].removeprefix(f"{folders[label]}/" if folders[label] else "")
        for (label, name), line in manifest.done.items()
        if label in folders and os.path.splitext(line["output"])[1].lower() in {**FORMAT, **ANIMATED}
    }


def _moving(photos: Sequence[Photo], known: Container[str]) -> set[str]:
    """Names of the animations in formats that no still is written in; what an earlier run has named needs no look."""
    new = [photo for photo in photos if photo.path.suffix.lower() in ANIMATED and photo.name not in known]
    return {photo.name for photo in new if _frames(photo.path) > 1}


def _frames(path: Path | UrlFile) -> int:
    try:
        return frame_count(path if isinstance(path, Path) else path.read_bytes())
    except OSError:  # reading it will tell
        return 1


def _is_there(target: Path, manifest: Manifest, look: Look, photo: Photo, plan: Plan, over: bool = False) -> bool:
    line = manifest.done.get((look.label, photo.name))
    try:
        if not target.stat().st_size:
            return False  # what a power cut may leave
    except OSError:
        return False
    if line is None:
        return not manifest.replacing
    if photo.mask and line.get("mask_sha256", photo.mask) != photo.mask:
        return False
    same = (line["input_bytes"], line["input_changed"]) == (photo.size, photo.changed)
    if same or line.get("input_sha256") == _hash_of(photo.path):
        return True
    if other := not over and _is_another(photo, line.get("source")):
        plan.others.append((line["output"], line["source"]))
    return other


def _is_another(photo: Photo, source: str | None) -> bool:
    """Whether a photograph of this name in another folder is still where it was when it was painted."""
    if not source or source == str(photo.path.absolute()):
        return False
    if isinstance(photo.path, UrlFile) or "://" in source:
        return exists(source)
    try:
        return file_id(source) != file_id(photo.path)
    except OSError:  # it was moved, perhaps to here
        return False


def _hash_of(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def differences(old: Mapping, new: Mapping) -> list[str]:
    """What two settings differ in, in words."""
    old, new = ({"paint_at": FULL} | dict(settings) for settings in (old, new))  # which goes without saying
    return [sentence for key in sorted({*old, *new}) if old.get(key) != new.get(key) for sentence in _apart(key, old.get(key), new.get(key))]


def _apart(key: str, old, new) -> list[str]:
    """What two values of one setting differ in."""
    if key == "network" or all(map(_is_content, (old, new))):
        return [f"another {key}"]
    alike = zip(old, new) if _labels(old) and _labels(old) == _labels(new) else ()
    told = dict.fromkeys(told for pair in alike for told in _alike_apart(*pair))  # all paintings have one size, which is told once
    return list(told) or [f"{key.replace('_', ' ')} {_said(old)} instead of {_said(new)}"]


def _alike_apart(old: Mapping, new: Mapping) -> Iterator[str]:
    """What two styles, or two regions, of one label differ in."""
    where = f"{' in' if 'mask' in old else ''} {old['label']}"
    if old.get("mask") != new.get("mask"):
        yield from (f"{told}{where}" for told in _apart("mask", old.get("mask"), new.get("mask")))
    image, other = (value.get("image") or {} for value in (old, new))
    if (old.get("parts"), image.get("painting")) != (new.get("parts"), other.get("painting")):
        yield f"another {'painting' if image and other else 'style'}{where}"
    if image.get("size") != other.get("size"):
        yield f"style size {_said(image.get('size'))} instead of {_said(other.get('size'))}"


def _labels(value) -> list[str]:
    """Of a setting's styles or regions; none of another one's value."""
    return [str(v.get("label")) for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _said(value) -> str:
    if isinstance(value, list):
        return " and ".join(str(v.get("label", v)) if isinstance(v, dict) else str(v) for v in value)
    if value is None:
        return "unset"
    if _is_content(value):
        return "set"
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _is_content(value) -> bool:
    """Whether it is the hash of a file, which tells people nothing."""
    return isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value))


def default_workers() -> int:
    return max(2, min(8, (os.cpu_count() or 2) // 2))


def paint_all(
    tasks: Sequence[Task],
    paint: Callable[[Picture | Moving, Path | UrlFile, Look], object],
    out: Path,
    manifest: Manifest,
    quality: int = 95,
    workers: int | None = None,
    stop: threading.Event | None = None,
    alike: Alike | None = None,
    size: int | None = None,
) -> Iterator[dict]:
    """Do the tasks, and give the manifest's line for each painting as it is done or has failed.

    paint: what `read_photo` gives, where it lies and a look to what `encoded` takes; called in the thread that iterates. alike:
    paints several of one size at once, as far as they are there already. size: as for `read_photo`.
    stop: once it is set, what has been painted is written, nothing more is painted, and the iteration ends.

    Raises `NoRoom` where nothing more can be written; whatever was written till then is whole.
    """
    workers, stop = workers or default_workers(), stop or threading.Event()
    yield from _Pipeline(tasks, paint, out, manifest, quality, workers, stop, alike, size).run()


@dataclass(frozen=True)
class Alike:
    """Paints pictures of one size at once. most: how many like this one. paint: them in a look."""

    most: Callable[[Picture], int]
    paint: Callable[[Sequence[Picture], Look], Sequence[object]]


@dataclass
class _Work:
    """A photograph on its way."""

    task: Task
    picture: Picture | Moving
    facts: dict
    pixels: int
    left: int  # paintings still to be written


@dataclass
class _Painted:
    work: _Work
    look: Look
    target: str
    image: object
    seconds: float


class _Pipeline:
    def __init__(self, tasks, paint, out, manifest, quality, workers, stop, alike, size) -> None:
        self.tasks, self.paint, self.out, self.manifest = iter(tasks), paint, out, manifest
        self.quality, self.workers, self.stop, self.alike = quality, workers, stop, alike
        self.size = size
        self.next: _Work | None = None  # taken out of the queue, and not painted yet
        self.decoded: queue.Queue = queue.Queue(workers)
        self.painted: queue.Queue = queue.Queue(workers)
        self.lines: queue.SimpleQueue = queue.SimpleQueue()
        self.room = _Room(PIXELS_AT_ONCE)
        self.halt = threading.Event()  # nothing more is to be read
        self.over = threading.Event()  # nor to be written
        self.trouble: BaseException | None = None  # in a thread; ends everything
        self.lock = threading.Lock()

    def run(self) -> Iterator[dict]:
        readers = [self._thread(self._read_all) for _ in range(self.workers)]
        writers = [self._thread(self._write_all) for _ in range(self.workers)]
        try:
            while any(t.is_alive() for t in readers) or not self.decoded.empty() or self.next:
                if self.stop.is_set() or self.over.is_set():
                    break
                yield from self._told()
                try:
                    work, self.next = self.next or self.decoded.get(timeout=0.05), None
                except queue.Empty:
                    continue
                yield from self._paint(self._with_alike(work))
            self.halt.set()
            for _ in writers:
                self._put(self.painted, None, self.over)
            for thread in writers:
                thread.join()
            yield from self._told()
        finally:
            self.halt.set()
            self.over.set()
            # A thread may still be reading when the process ends; were it the last to hold the network, freeing that would abort it.
            self.paint = self.alike = None
        if self.trouble:
            raise self.trouble

    def _thread(self, work: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001: it is raised again in the thread that iterates
                self.trouble = self.trouble or error
                self.over.set()

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def _told(self) -> Iterator[dict]:
        while not self.lines.empty():
            yield self.lines.get()

    def _put(self, to: queue.Queue, item, unless: threading.Event) -> None:
        while not unless.is_set():
            try:
                return to.put(item, timeout=0.1)
            except queue.Full:
                continue

    # ---- reading

    def _read_all(self) -> None:
        while not self.halt.is_set():
            with self.lock:
                task = next(self.tasks, None)
            if task is None:
                return
            self._read(task)

    def _read(self, task: Task) -> None:
        try:
            picture, facts = read_photo(task, self.size)
        except CANNOT_READ as error:
            for look, target in task.targets:
                self._failed(task, look, target, error)
            return
        pixels = picture.size[0] * picture.size[1] * (picture.frames if isinstance(picture, Moving) else 1)
        work = _Work(task, picture, facts, pixels, len(task.targets))
        if self.room.take(work.pixels, self.halt):
            self._put(self.decoded, work, self.halt)

    # ---- painting

    def _with_alike(self, work: _Work) -> list[_Work]:
        """This one and those after it that can be painted with it, as far as they are decoded."""
        works = [work]
        if self.alike is None or isinstance(work.picture, Moving):
            return works
        most = self.alike.most(work.picture)
        while len(works) < most and not self.decoded.empty():
            self.next = self.decoded.get()
            if isinstance(self.next.picture, Moving) or _kind(self.next) != _kind(work):
                break
            works.append(self.next)
            self.next = None
        return works

    def _paint(self, works: list[_Work]) -> Iterator[dict]:
        for number, (look, _) in enumerate(works[0].task.targets):
            for work, painted in zip(works, self._at_once(works, look)):
                if painted is None and (self.stop.is_set() or self.over.is_set()):
                    return
                yield from self._paint_one(work, look, work.task.targets[number][1], painted)

    def _at_once(self, works: list[_Work], look: Look) -> list[tuple[object, float] | None]:
        """Each photograph's painting and its seconds, or None where they are to be painted one at a time."""
        if len(works) == 1 or self.stop.is_set() or self.over.is_set():
            return [None] * len(works)
        started = time.perf_counter()
        try:
            images = self.alike.paint([work.picture for work in works], look)
        except (StylenormError, OSError, MemoryError, RuntimeError) as error:
            if not short_of_memory(error):
                raise
            return [None] * len(works)  # which takes less memory, and tells which one is at fault
        return [(image, round(since(started) / len(works), 4)) for image in images]

    def _paint_one(self, work: _Work, look: Look, target: str, painted: tuple[object, float] | None) -> Iterator[dict]:
        started = time.perf_counter()
        try:
            image, seconds = painted or (self.paint(work.picture, work.task.photo.path, look), since(started))
        except (StylenormError, OSError, MemoryError, RuntimeError) as error:
            if not short_of_memory(error):
                raise
            self._failed(work.task, look, target, error)
            self._finished(work)
        else:
            self._put(self.painted, _Painted(work, look, target, image, seconds), self.over)
        yield from self._told()

    # ---- writing

    def _write_all(self) -> None:
        while not self.over.is_set():
            try:
                item = self.painted.get(timeout=0.1)
            except queue.Empty:
                continue
            if item is None:
                return
            try:
                self._write(item)
            except NoRoom:
                raise
            except (StylenormError, OSError, MemoryError) as error:
                if isinstance(error, OSError) and error.errno in NO_MORE_ROOM:
                    raise no_room(self.out, error) from None
                self._failed(item.work.task, item.look, item.target, error)
            finally:
                self._finished(item.work)

    def _write(self, item: _Painted) -> None:
        started = time.perf_counter()
        data = encoded(item.image, str(self.out / item.target), self.quality)
        draft = stage(self.out, item.target, data)
        seconds = {"paint_seconds": item.seconds, "write_seconds": since(started)}
        line = done_line(item.work.task.photo, item.look, item.target, item.work.facts, item.image.size, data, seconds)
        publish(self.out, item.target, draft, lambda: self._note(line))
        self.lines.put(line)

    def _failed(self, task: Task, look: Look, target: str, error: BaseException) -> None:
        line = failed_line(task.photo, look, target, error)
        self._note(line)
        self.lines.put(line)

    def _note(self, line: dict) -> None:
        try:
            self.manifest.append(line)
        except OSError as error:
            raise no_room(self.out, error) from None

    def _finished(self, work: _Work) -> None:
        with self.lock:
            work.left -= 1
            last = work.left == 0
        if last:
            self.room.give(work.pixels)


def _kind(work: _Work) -> tuple:
    """Equal for photographs that can be painted at once."""
    return work.picture.size, work.picture.deep is None, [look for look, _ in work.task.targets]


class _Room:
    """Pixels that may be in memory at once. A picture that is larger than all of it goes alone."""

    def __init__(self, size: int) -> None:
        self.size, self.used, self.changed = size, 0, threading.Condition()

    def take(self, pixels: int, halt: threading.Event) -> bool:
        with self.changed:
            while self.used and self.used + pixels > self.size:
                if halt.is_set():
                    return False
                self.changed.wait(0.1)
            self.used += pixels
            return True

    def give(self, pixels: int) -> None:
        with self.changed:
            self.used -= pixels
            self.changed.notify_all()
