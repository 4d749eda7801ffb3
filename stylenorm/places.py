"""Folders of photographs and of paintings that may lie at a URL: s3://, gs://, memory:// ... through fsspec. No torch.

A plain path, or a URL of files here, is a `pathlib.Path`. Anything else with :// in it is a `UrlFolder`, whose files offer
what a batch asks of a path: ``read_bytes``, ``write_bytes``, ``stat().st_size``, and a name to show.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit
from weakref import WeakKeyDictionary

from stylenorm.errors import StylenormError

CHANGED = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")  # as the file systems call it
turns: WeakKeyDictionary = WeakKeyDictionary()  # locks of file systems that take one request at a time
SHARES = os.name == "nt"  # whether folders of other machines have paths


def place(text: str) -> Path | UrlFolder:
    """A path or a URL as it was typed. Raises `StylenormError` for a URL that names no folder."""
    kind, colon, rest = text.partition("://")
    if not colon or len(kind) == 1:  # C://photos is on a drive
        return Path(text)
    local, host = kind.lower() == "file", ""
    if local:
        host = rest.partition("/")[0].replace("localhost", "")
    if host and (not SHARES or rest.strip("/") == host):
        raise StylenormError(f"{text} names no folder of this machine; a folder's URL has three slashes, as in file:///photos, or give its path")
    if not kind or not rest or not local and not rest.strip("/"):
        raise StylenormError(f"{text} names no folder; give one, as in s3://bucket/photos")
    if local:
        path = unquote(urlsplit(text).path, errors="surrogateescape")
        return Path(f"//{host}{path}" if host else re.sub("^/(?=[A-Za-z]:)", "", path) if SHARES else path)  # /C:/photos is C:\\photos there
    folder = UrlFolder(text.rstrip("/"))
    return Path(folder.path) if folder.is_here else folder  # under fsspec's other name for it, local://, or behind a cache


def exists(text: str) -> bool:
    """Whether there is something at a path or a URL."""
    with _reached(text):
        import fsspec

        files, path = fsspec.core.url_to_fs(text)
        return files.exists(path)


class UrlFolder:
    """A folder at a URL, or what goes for one in an object store. Raises `StylenormError` if it cannot be reached."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._sizes: dict[str, int] | None = None
        with _reached(url):
            import fsspec
            from fsspec.implementations.local import LocalFileSystem

            self.files, self.path = fsspec.core.url_to_fs(url)
            self.below = _behind_caches(self.files)
            self.is_here = isinstance(self.below, LocalFileSystem)
        # FTP has one connection, of which threads would take each other's answers. The asynchronous ones sort them.
        self.turn = nullcontext() if self.files.async_impl else turns.setdefault(self.files, threading.Lock())

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> UrlFile:
        return UrlFile(self, str(name))

    def __reduce__(self):
        return UrlFolder, (self.url,)

    def absolute(self) -> UrlFolder:
        return self

    def holds(self, path: str, files) -> bool:
        """Whether a path in the file system ``files`` is this folder's or lies in it, whatever URLs the two were given by."""
        return self.below == _behind_caches(files) and f"{path}/".startswith(f"{self.path.rstrip('/')}/")

    def listed(self, recursive: bool = True) -> Iterator[tuple[UrlFile, int, int]]:
        """Every file below, its size in bytes, and when it changed, in ns, or 0."""
        with _reached(self.url):
            self.files.invalidate_cache()
            found = self.files.find(self.path, maxdepth=None if recursive else 1, detail=True)
        for path, info in found.items():
            file = UrlFile(self, posixpath.relpath(path, self.path))
            file = file if file.where == path else replace(file, own=path)  # members of archives are called ./a.jpg
            yield file, int(info.get("size") or 0), _changed(info)

    def sizes(self) -> dict[str, int]:
        """Of all files below, by name, asked for once."""
        if self._sizes is None:
            self._sizes = {file.name: size for file, size, _ in self.listed()}
        return self._sizes


@dataclass(frozen=True)
class UrlFile:
    """A file in a `UrlFolder`. name: from there. own: its whole path where that is not the folder's with the name."""

    folder: UrlFolder
    name: str
    own: str | None = None

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}"

    def absolute(self) -> UrlFile:
        return self

    @property
    def suffix(self) -> str:
        return posixpath.splitext(self.name)[1]

    @property
    def where(self) -> str:
        return self.own or posixpath.join(self.folder.path, self.name)

    def read_bytes(self) -> bytes:
        with _as_of_a_path(self):
            return self.folder.files.cat_file(self.where)

    def write_bytes(self, data: bytes) -> None:
        """Put the file there; in an object store it is there whole or not at all."""
        with _as_of_a_path(self):
            self.folder.files.makedirs(posixpath.dirname(self.where), exist_ok=True)
            self.folder.files.pipe_file(self.where, data)

    def stat(self) -> SimpleNamespace:
        """What was there when the folder was listed first."""
        if self.name not in self.folder.sizes():
            raise FileNotFoundError(str(self))
        return SimpleNamespace(st_size=self.folder.sizes()[self.name])


def _behind_caches(files):
    """The file system that simplecache:: and the like keep copies of: their paths are its paths."""
    from fsspec.implementations.cached import CachingFileSystem

    while isinstance(files, CachingFileSystem):
        files = files.fs
    return files


@contextmanager
def _reached(url: str) -> Iterator[None]:
    """What fsspec says about a URL that it cannot open, in one sentence."""
    try:
        yield
    except FileNotFoundError:
        raise StylenormError(f"the folder {url} does not exist; check the name") from None
    except ImportError as error:  # which package it takes is in there
        raise StylenormError(f"{url} cannot be opened: {error}; pip install that") from None
    except Exception as error:  # clients of object stores have errors of their own, which are no OSError
        raise StylenormError(f"{url} cannot be opened: {str(error) or type(error).__name__}") from None


@contextmanager
def _as_of_a_path(file: UrlFile) -> Iterator[None]:
    """For several threads, and whatever goes wrong is an OSError with the file's name, as it is of a `pathlib.Path`."""
    try:
        with file.folder.turn:
            yield
    except (OSError, MemoryError):
        raise
    except Exception as error:  # as in `_reached`
        raise OSError(errno.EIO, str(error) or type(error).__name__, str(file)) from error


def _changed(info: dict) -> int:
    value = next((info[key] for key in CHANGED if info.get(key)), 0)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return 0
    return round((value.timestamp() if isinstance(value, datetime) else float(value)) * 1e9)
