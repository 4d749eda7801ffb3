"""What a batch has done so far: a file of JSON lines among the results, appended to as it goes. No torch.

The lines are objects with a "kind": "settings" begins a batch (later lines belong to the last one), "done" and
"failed" tell of one painting, "end" of a run. A "done" is written before its picture gets its name, so that no
picture of ours is ever without one; a "done" whose picture is missing is simply not done. A "failed" takes no "done"
back: the painting of what a photograph was before stays, and has to be known as one that is to be painted again.
"""

from __future__ import annotations

import errno
import json
import math
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePath

from stylenorm.errors import StylenormError
from stylenorm.places import UrlFolder

NAME = "stylenorm-manifest.jsonl"
VERSION = 1
TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)  # what a file that another holds is refused with


class Manifest:
    """The manifest in a folder, which is made if need be, held so that no second run works there at once. Where nothing is begun, it leaves neither.

    settings: of the batch so far, or None. replacing: whether that batch was told to paint over what was there. ended: whether
    it has come to its end, with nothing left.
    done: its paintings, {(style's label, photograph's name): the line}. failed: what could not be painted when it was tried last.
    noted: the paintings of all batches so far, below the folder.
    Safe to append to from several threads.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._lock, self._made, self._held = threading.Lock(), not folder.exists(), False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and not self.path.is_file():
                raise StylenormError(f"{self.path} is no file but something else; remove it, or give another folder for the paintings")
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except FileExistsError:
            raise StylenormError(f"{folder} is a file; give a folder for the paintings") from None
        except OSError as error:
            raise StylenormError(f"{folder} cannot be written ({error.strerror}); give another folder for the paintings") from None
        try:
            self._hold(folder)
            self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        if self._file is None:
            return
        unused = self._held and not os.fstat(self._file).st_size  # of a batch that was refused
        if unused and os.name != "nt":  # while it keeps others out
            self._remove()
        os.close(self._file)
        self._file = None
        if unused and os.name == "nt":  # which lets nobody remove what is open
            self._remove()

    def _remove(self) -> None:
        """So that photographs beside it are as they were: those beside a manifest are taken for paintings."""
        with suppress(OSError):
            self.path.unlink()
            if self._made:
                self.path.parent.rmdir()

    def begin(self, settings: Mapping, replacing: bool, **about) -> None:
        """Begin a batch. What was noted before stays in the file and counts no more."""
        self._start(dict(settings), replacing)
        self.append({"kind": "settings", "version": VERSION, "settings": self.settings, "replacing": replacing} | about)

    def append(self, line: Mapping) -> None:
        """Add a line, in one piece. Raises OSError, for a full disk above all."""
        data = json.dumps(line).encode() + b"\n"  # ASCII, so that a name that is no Unicode comes back as it was
        with self._lock:
            data = data if self._whole else b"\n" + data
            written = os.write(self._file, data)
            self._whole = written == len(data)
        if written < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def _hold(self, folder: Path) -> None:
        try:
            lock_file(self._file)
            self._held = True
        except OSError as error:
            if error.errno not in TAKEN:
                return
        if not self._held or not self.path.exists():  # one that was refused has just removed it
            raise StylenormError(f"another stylenorm batch is painting into {folder}; wait for it, or stop it") from None

    def _read(self) -> None:
        self._take_all(self.path.read_bytes())

    def _take_all(self, data: bytes) -> None:
        self._start(None, False)
        self.noted: set[str] = set()
        self._whole = not data or data.endswith(b"\n")
        for text in data.splitlines():
            try:
                self._take(json.loads(text))
            except StylenormError:
                raise
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue  # a line that a kill or a power cut has spoilt

    def _take(self, line: dict) -> None:
        if line["kind"] == "settings":
            if line["version"] > VERSION:
                raise StylenormError(f"{self.path} is of a newer stylenorm; update this one, or give another folder")
            self._start(dict(line["settings"]), bool(line["replacing"]))
        elif line["kind"] == "done" and _lies_below(line["output"]) and isinstance(line.get("source", ""), str):
            line["input_bytes"], line["input_changed"]  # noqa: B018
            self.done[line["style"], line["input"]] = line
            self.noted.add(line["output"])
            self.failed.discard((line["style"], line["input"]))
        elif line["kind"] == "failed":
            self.failed.add((line["style"], line["input"]))
        elif line["kind"] == "end":
            self.ended = self.ended or not line["left"]

    def _start(self, settings: dict | None, replacing: bool) -> None:
        self.settings, self.replacing, self.ended, self.done, self.failed = settings, replacing, False, {}, set()


class UrlManifest(Manifest):
    """The same at a URL, where nothing can be appended to: it is put there whole, now and then and at the end.

    What a killed run has not put there any more is paintings that are there and have no line, which count as done.
    Nobody else is kept out: an object store has no locks.
    """

    EVERY = 20  # seconds

    def __init__(self, folder: UrlFolder) -> None:
        self.path = folder / NAME
        self._lock, self._told, self._file = threading.Lock(), -math.inf, None
        self._data = bytearray(self.path.read_bytes() if NAME in folder.sizes() else b"")
        self._take_all(bytes(self._data))

    def append(self, line: Mapping) -> None:
        with self._lock:
            self._data += (b"" if self._whole else b"\n") + json.dumps(line).encode() + b"\n"
            self._whole = True
            if line["kind"] in ("settings", "end") or time.monotonic() - self._told > self.EVERY:
                self._put()

    def close(self) -> None:
        with self._lock:
            self._put()

    def _put(self) -> None:
        if self._data:
            self.path.write_bytes(bytes(self._data))
        self._told = time.monotonic()


def _lies_below(output: str) -> bool:
    """Whether it names a file below the folder: what a line names is written there again, and somebody may have changed it."""
    path = PurePath(output)
    return bool(path.name) and not path.anchor and ".." not in path.parts and b"\0" not in os.fsencode(output)


def manifest_in(folder: Path | UrlFolder) -> Manifest:
    return UrlManifest(folder) if isinstance(folder, UrlFolder) else Manifest(folder)


def lock_file(file: int) -> None:
    """Hold the file until it is closed or this process ends, however it does. Raises OSError, one of `TAKEN` if another holds it."""
    try:
        import fcntl
    except ImportError:  # Windows, whose locks keep others from reading: a byte far behind the end
        import msvcrt

        os.lseek(file, 1 << 30, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
