"""Files that appear whole or not at all: written under a draft's name in the same folder, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX, SUFFIX = ".stylenorm-draft-", ".tmp"


def write_draft(folder: str | Path, data: bytes) -> Path:
    """A new file in ``folder``, to be renamed to what it is meant to be. Nothing is left behind if that fails."""
    draft = Path(folder, f"{PREFIX}{secrets.token_hex(6)}{SUFFIX}")
    try:
        with open(draft, "xb") as file:  # and not tempfile, whose files nobody else may read
            file.write(data)
    except BaseException:
        remove(draft)
        raise
    return draft


def write_whole(path: str | Path, data: bytes) -> None:
    """Write or replace a file; a link stays one. A run that is killed leaves the old one, or none."""
    path = os.path.realpath(path)
    draft = write_draft(Path(path).parent, data)
    try:
        os.replace(draft, path)
    finally:
        remove(draft)  # there only if something, an interrupt included, has gone wrong


@contextmanager
def draft_of(path: str | Path) -> Iterator[Path]:
    """Yields another name, in the folder of ``path`` and with its suffix, to write to; afterwards that becomes ``path``, or what it links to."""
    path = Path(os.path.realpath(path))
    draft = path.with_name(f"{PREFIX}{secrets.token_hex(6)}{SUFFIX}{path.suffix}")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        remove(draft)  # there only if something, an interrupt included, has gone wrong


def remove_drafts(folder: str | Path) -> int:
    """Remove what a killed run has left in ``folder``, and say how many that were."""
    try:
        stale = [name for name in os.listdir(folder) if name.startswith(PREFIX) and SUFFIX in name]
    except OSError:
        return 0
    for name in stale:
        remove(Path(folder, name))
    return len(stale)


def remove(path: str | Path) -> None:
    with suppress(OSError):
        os.unlink(path)
