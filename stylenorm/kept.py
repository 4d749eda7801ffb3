"""What took long to make, kept for the next process in a folder of the user's own. Nothing depends on its being there."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from stylenorm.drafts import DAY, remove, remove_drafts, write_whole

MOST = 8  # files that stay, of up to some 30 MB each
SUM = 4  # bytes before what is kept: whether it has come whole. Who could forge that could as well forge a digest


class Kept:
    """Bytes in ``folder``, each under the digest of whatever they depend on, ``what`` and what `read` and `write` are given.

    most: files that stay in the folder, the newest ones. A file that has not come whole, or that lies where others may
    write, is as good as none; nothing here raises.
    """

    def __init__(self, folder: Path, what: Sequence[object], most: int = MOST) -> None:
        self.folder, self.what, self.most = folder, tuple(what), most

    def has(self, more: Sequence[object]) -> bool:
        """Whether there is something to `read`, be it good or not."""
        try:
            return self._file(more).is_file()
        except OSError:  # the folder is none that may be looked into
            return False

    def read(self, more: Sequence[object]) -> bytearray | None:
        try:
            if not self._is_ours():
                return None
            with open(self._file(more), "rb", buffering=0) as file:
                found, data = file.read(SUM), bytearray(max(0, os.fstat(file.fileno()).st_size - SUM))
                come = file.readinto(data)
        except (OSError, MemoryError):
            return None
        return data if come == len(data) and _sum(data) == found else None

    def write(self, more: Sequence[object], data: bytes) -> None:
        """Keep ``data``, and of what was kept before the newest few."""
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._is_ours():
                return
            remove_drafts(self.folder, DAY)
            older = sorted(self.folder.glob("*.bin"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
            for file in older[self.most - 1 :]:
                remove(file)
            write_whole(self._file(more), _sum(data) + data)

    def _file(self, more: Sequence[object]) -> Path:
        key = hashlib.sha256(repr((self.what, tuple(more))).encode(errors="backslashreplace"))
        return self.folder / f"{key.hexdigest()[:32]}.bin"

    def _is_ours(self) -> bool:
        """Whether nobody else can put a file there, as far as the system tells."""
        if not hasattr(os, "getuid"):
            return True
        found = self.folder.stat()
        return found.st_uid == os.getuid() and not found.st_mode & 0o022


def _sum(data: bytes | bytearray) -> bytes:
    return zlib.crc32(data).to_bytes(SUM, "big")


def state_of(file: Path) -> tuple[int, int] | None:
    """What differs as soon as a file has been written again: its length and when that was; None if there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def release_of(package: str) -> object:
    """What differs as soon as another version of an installed package is there; None if it is not.

    By what lies on the disk: asking the package imports it, and asking `importlib.metadata` takes as long as many imports do.
    """
    spec = find_spec(package)
    if spec is None or not spec.origin:
        return None
    file = Path(spec.origin)
    beside = sorted(path.name for path in file.parent.parent.glob(f"{package}-*.dist-info"))  # which has the version in its name
    return beside, state_of(file)
