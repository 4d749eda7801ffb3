"""`Shelf`: the app's own temporary folder, and whose file is whose.

Gradio serves what lies in its temporary folder and nothing else, so that is where results are written. Each visitor
has slots ("photo", "preview", ...). Holding a file in a slot lets go of what was there before, and a file that
nobody holds is deleted: two hundred requests leave no more behind than one. Of a program that sends its requests all at
once, what is in a slot waits for the other ones: they may be about the same photograph, and a result is yet to be fetched.
What came here and was never held, such as an upload that nothing was made of, is swept away when it is old.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MOST_VISITORS = 200  # held at a time; the one that has been silent for longest goes first
SILENT = 24 * 3600  # seconds; who says nothing for so long is gone: a program does not tell when it leaves
MOST_AT_ONCE = 40  # holds that wait for others in a slot: more than requests wait in the queue and are at work
FETCHED = 10.0  # seconds that what the app holds stays at least: on a busy machine a program's next request ends before it has fetched


@dataclass
class Slot:
    """What is held and since when, the latest last, and whether the visitor had other requests waiting or at work when it came."""

    holds: list[tuple[set[Path], float]] = field(default_factory=list)
    crowded: bool = False

    def let_go(self, keep: int = 1, before: float = math.inf) -> set[Path]:
        """Forget all but the latest, and what is not held since ``before``, and return it. Never more than `MOST_AT_ONCE` stay."""
        older = self.holds[:-keep]
        stay = [hold for hold in older if hold[1] >= before][-(MOST_AT_ONCE - keep) :] if keep < MOST_AT_ONCE else []
        self.holds[:-keep] = stay
        return set().union(*(paths for paths, _ in older)) - set().union(*(paths for paths, _ in stay))


class Shelf:
    """Safe to use from several threads at once.

    crowded: whether a visitor has several requests waiting or at work. seconds: that everything is held at least, see `FETCHED`.
    """

    def __init__(self, folder: str | Path, crowded: Callable[[str], bool] = lambda visitor: False, seconds: float = 0.0) -> None:
        self.folder, self.crowded, self.seconds = Path(folder).resolve(), crowded, seconds
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._held: OrderedDict[str, dict[str, Slot]] = OrderedDict()
        self._heard: dict[str, float] = {}
        self._kept: set[Path] = set()

    def new(self, name: str) -> Path:
        """Where a new file called ``name`` can be written; nobody can guess the folder."""
        folder = self.folder / "made" / secrets.token_hex(16)
        folder.mkdir(parents=True)
        return folder / name

    def hold(self, visitor: str, slot: str, paths: Iterable[str | Path | None]) -> None:
        """``visitor`` now has ``paths`` in ``slot``, and what was there before is let go, at once or after a crowd."""
        self.hold_all(visitor, {slot: paths})

    def hold_all(self, visitor: str, slots: Mapping[str, Iterable[str | Path | None]]) -> None:
        """The same for several slots at once: what moves from one to another stays, as where photograph and painting are swapped."""
        wanted = {slot: {Path(p).resolve() for p in paths if p is not None} for slot, paths in slots.items()}
        crowded, now, gone = self.crowded(visitor), time.monotonic(), set()
        with self._lock:
            for slot, paths in wanted.items():
                held = self._held.setdefault(visitor, {}).setdefault(slot, Slot())
                held.holds.append((paths, now))
                most = MOST_AT_ONCE if crowded or held.crowded else 1  # the last of a crowd fetches, too
                gone |= held.let_go(most, now - self.seconds if self.seconds else math.inf)
                held.crowded = crowded
            self._hear(visitor)
            while len(self._held) > MOST_VISITORS:
                gone |= self._forget(next(iter(self._held)))
            self._delete(gone)

    def release(self, visitor: str, slot: str) -> None:
        """``visitor`` needs nothing in ``slot`` any more."""
        with self._lock:
            held = self._held.get(visitor, {}).pop(slot, Slot())
            self._delete(_all({slot: held}))

    def stay(self, visitor: str) -> None:
        """``visitor`` has work going on here, and counts as heard, unless the page was closed."""
        with self._lock:
            if visitor in self._held:
                self._hear(visitor)

    def keep(self, *paths: str | Path) -> None:
        """Never delete these: examples and thumbnails."""
        with self._lock:
            self._kept |= {Path(p).resolve() for p in paths}

    def keep_present(self) -> None:
        """Never delete what lies here now."""
        self.keep(*(p for p in self.folder.rglob("*") if p.is_file()))

    def leave(self, visitor: str) -> None:
        """``visitor`` closed the page."""
        with self._lock:
            self._delete(self._forget(visitor))

    def sweep(self, seconds: float) -> None:
        """Delete what has lain here for longer than that, and that nobody holds and nothing keeps; forget the silent.

        Who has said nothing for so long holds no more than the latest of each slot.
        """
        old, before, made = set(), time.time() - seconds, self.folder / "made"
        for folder, _, names in os.walk(self.folder, topdown=False):
            if Path(folder).parent == made:  # of what was never written
                with contextlib.suppress(OSError):
                    if os.lstat(folder).st_mtime < before:
                        os.rmdir(folder)
            for path in (Path(folder, name) for name in names):
                with contextlib.suppress(OSError):  # it is gone already
                    if path.lstat().st_ctime < before:  # a file that was moved here keeps the time it was written at
                        old.add(path)
        with self._lock:
            for visitor in [v for v, heard in self._heard.items() if time.monotonic() - heard > seconds]:
                old = old.union(*(slot.let_go() for slot in self._held[visitor].values()))
            for visitor in [v for v, heard in self._heard.items() if time.monotonic() - heard > SILENT]:
                old |= self._forget(visitor)
            self._delete(old)

    def size(self) -> int:
        """Bytes that lie here."""
        return sum(p.stat().st_size for p in self.folder.rglob("*") if p.is_file())

    def _hear(self, visitor: str) -> None:
        self._held.move_to_end(visitor)
        self._heard[visitor] = time.monotonic()

    def _forget(self, visitor: str) -> set[Path]:
        self._heard.pop(visitor, None)
        return _all(self._held.pop(visitor, {}))

    def _delete(self, paths: set[Path]) -> None:
        wanted = self._kept.union(*(_all(slots) for slots in self._held.values()))
        for path in paths - wanted:
            if self.folder in path.resolve().parents:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    path.parent.rmdir()  # only if nothing else is in it


def _all(slots: Mapping[str, Slot]) -> set[Path]:
    return set().union(*(paths for slot in slots.values() for paths, _ in slot.holds))
