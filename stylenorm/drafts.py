"""Files that appear whole or not at all: written under a draft's name in the same folder, then renamed. And which paths are one file."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX, SUFFIX = ".stylenorm-draft-", ".tmp"
OURS = ".stylenorm-"  # what the names of all drafts begin with, those of `stylenorm.encode` as well
DAY = 86400  # s, after which no run is still at work on a draft
NOWHERE = (21, 123, 1921)  # Windows: a drive without a disk, no name that a file can have, a link that leads nowhere
PATIENCE = 1.0 if os.name == "nt" else 0.0  # s in which what looks into a new file on Windows, for viruses or words, lets go of it


def reach(path: str | Path) -> None:
    """Raise OSError where the system does not let on whether a file is there, mostly for want of permission.

    From Python 3.14 on `Path.exists` and its like take such a file for a missing one.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EBADF) and getattr(error, "winerror", None) not in NOWHERE:
            raise


def is_read_only(path: str | Path) -> bool:
    """Whether a file is there that may not be written. Renaming would put another in its place all the same, for it asks the folder alone."""
    return os.path.exists(path) and not os.access(path, os.W_OK)


def spare_read_only(path: str | Path) -> None:
    """Raise PermissionError where `is_read_only`."""
    if is_read_only(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))


def write_draft(folder: str | Path, data: bytes) -> Path:
    """A new file in ``folder``, to be renamed to what it is meant to be. Nothing is left behind if that fails."""
    draft = Path(folder, f"{PREFIX}{os.urandom(6).hex()}{SUFFIX}")
    try:
        with open(draft, "xb") as file:  # and not tempfile, whose files nobody else may read
            file.write(data)
    except BaseException:
        remove(draft)
        raise
    return draft


def write_whole(path: str | Path, data: bytes) -> None:
    """Write or replace a file, but none that is read-only; a link stays one. A run that is killed leaves the old one, or none."""
    path = os.path.realpath(path)
    spare_read_only(path)
    draft = write_draft(Path(path).parent, data)
    try:
        replace(draft, path)
    finally:
        remove(draft)  # there only if something, an interrupt included, has gone wrong


@contextmanager
def draft_of(path: str | Path) -> Iterator[Path]:
    """Yields another name, in the folder of ``path`` and with its suffix, to write to; afterwards that becomes ``path``, or what it links to.

    A file that is read-only stays: PermissionError is raised before anything is written.
    """
    path = Path(os.path.realpath(path))
    spare_read_only(path)
    draft = path.with_name(f"{PREFIX}{os.urandom(6).hex()}{SUFFIX}{path.suffix}")
    try:
        yield draft
        try:
            replace(draft, path)
        except PermissionError as error:
            error.filename, error.filename2 = str(path), None  # nobody knows the draft
            raise
    finally:
        remove(draft)  # there only if something, an interrupt included, has gone wrong


def replace(draft: str | Path, path: str | Path) -> None:
    """`os.replace`, which Windows refuses as long as another program has either file open."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return os.replace(draft, path)
        except PermissionError:
            if time.monotonic() >= end:
                raise
        time.sleep(0.02)


def file_id(path: str | Path) -> tuple[int, int | str]:
    """Equal for two paths of one file or folder. Raises OSError where there is none.

    Some file systems number no files for Windows, which then says 0 of each (https://github.com/python/cpython/issues/78116).
    """
    status = os.stat(path)
    return status.st_dev, status.st_ino or os.path.normcase(os.path.realpath(path))


def remove_drafts(folder: str | Path, age: float = 0, growing: bool = True) -> int:
    """Remove what a killed run has left in ``folder``, and say how many that were. Folders go when they are a `DAY` old.

    age: seconds since they were written last, for a folder in which another run may be at work: `DAY`.
    growing: those of `draft_of` as well, which a run may be writing to for hours.
    """
    latest, removed = time.time() - age, 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            ours = entry.name.startswith(OURS) and (SUFFIX in entry.name if growing else entry.name.endswith(SUFFIX))
            if ours and entry.is_dir(follow_symlinks=False):  # of a film, which a run may be painting
                if _last_written(entry) < time.time() - DAY:
                    import shutil

                    shutil.rmtree(entry.path, ignore_errors=True)
                    removed += 1
            elif ours and (not age or entry.stat().st_mtime < latest):
                remove(entry.path)
                removed += 1
    return removed


def _last_written(entry: os.DirEntry) -> float:
    """When a folder was, or anything right in it: its own time tells only when a file came or went."""
    with os.scandir(entry.path) as inside:
        return max(e.stat(follow_symlinks=False).st_mtime for e in (entry, *inside))


def remove(path: str | Path) -> None:
    with suppress(OSError):
        os.unlink(path)
