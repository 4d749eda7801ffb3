"""Errors for people: one sentence that names the thing and says what to do."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from reprlib import repr as repr_of
from shlex import quote
from subprocess import list2cmdline
from unicodedata import category

EXTRAS = {"export": "onnx onnxscript onnxruntime", "heic": "pillow-heif", "ray": "ray", "video": "av opencv-python-headless"}


class StylenormError(ValueError):
    """A mistake of the caller's or in a file, told in one sentence.

    The CLI exits with code 2, or with 1 where it is of a picture or a film that was to be painted.
    """


class ImageError(StylenormError):
    """A picture that cannot be read, used or written."""


class FilmError(StylenormError):
    """A film that cannot be read."""


class WeightsError(StylenormError):
    """A network file that cannot be read or used."""


class StyleError(StylenormError):
    """A style that cannot be read or does not fit the network."""


class OutputError(StylenormError):
    """Standard output that takes no more. The CLI exits with code 1."""


class NobodyReads(OutputError):
    """Standard output whose reader has gone. The CLI exits with code 1 and without a word."""


def counted(number: int, thing: str, things: str | None = None) -> str:
    """``1 photograph``, ``2 photographs``. things: where an s does not make it several."""
    return f"{number} {thing if number == 1 else things or thing + 's'}"


def one_line(text: str) -> str:
    """``text`` for a terminal: a file's name may hold line ends, and what moves the cursor or colours what follows."""
    return "".join("?" if category(c) in ("Cc", "Zl", "Zp") else c for c in text)


def as_word(text: object) -> str:
    """``text`` as it is typed, to be one word to the shell."""
    return list2cmdline([str(text)]) if os.name == "nt" else quote(str(text))


def in_short(value: object) -> str:
    """A wrong argument as a message shows it, in one short line."""
    return " ".join(repr_of(value).split())


def path_of(given: str | os.PathLike, what: str) -> Path:
    """``given`` as a path. Raises `StylenormError` where it is none. what: names it."""
    try:
        path = Path(given)
        if "\0" in str(path):  # which no system takes
            raise TypeError
        return path
    except TypeError:  # bytes among them
        raise StylenormError(f"{what} is given as a path, which {in_short(given)} is not") from None


def how_to_install(extra: str) -> str:
    """The command that adds an extra to the environment that this runs in, whose pip may not be the shell's.

    Where PyTorch was left out, it names the packages: the extra's own name would bring PyTorch as well.
    """
    from importlib.util import find_spec
    from shutil import which

    what = f'"stylenorm[{extra}]"' if find_spec("torch") else EXTRAS[extra]
    python, pip = sys.executable or "python", which("pip")
    if pip and os.path.dirname(pip) == os.path.dirname(python):
        return f"pip install {what}"
    return f'"{python}" -m pip install {what}' if " " in python else f"{python} -m pip install {what}"


def reason_of(error: OSError) -> str:
    """What went wrong, in words and without the number."""
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    if error.errno == errno.ENOENT and not error.filename:  # as os.getcwd says it
        return "the folder that this runs in is gone; change to another one"
    return error.strerror or str(error)


# As which it is told without a word of memory: by cuBLAS and cuDNN where other programs have nearly all of a GPU's, by OpenVINO on a CPU,
# by C++, and by the system's loader of libraries.
WITHOUT_A_WORD = "alloc_failed", "can't alloc", "failed to allocate", "bad_alloc", "bad allocation", "failed to map segment from shared object"
# What sounds like it: a fault of a program's, a library that came too late, and a folder from which nothing may be run.
NO_WANT = "illegal memory access", "memory in static tls block", "failed to map segment from shared object: operation not permitted"


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory is short: CUDA's own, Python's, torch's or OpenVINO's plain RuntimeError on a CPU.

    Or an ImportError, of a library that does not fit into memory any more.
    """
    if loader_died(error):
        return False
    told = str(error).lower()
    for words in NO_WANT:
        told = told.replace(words, "")
    says_so = any(words in told for words in ("memory", *WITHOUT_A_WORD))
    return isinstance(error, MemoryError) or (isinstance(error, (RuntimeError, ImportError)) and says_so)


def loader_died(error: BaseException) -> bool:
    """Whether ``error`` says, at whatever place, that a process of torch's DataLoader is gone, or could not hand on what it has loaded."""
    told = str(error)
    return isinstance(error, RuntimeError) and (told.startswith("DataLoader worker") or "shared memory(shm)" in told)
