"""The JSON header of a safetensors file, read without torch and checked strictly."""

from __future__ import annotations

import json
import struct
from io import UnsupportedOperation
from pathlib import Path

from stylenorm.errors import WeightsError, path_of

FORMAT_VERSION = 1
KEY = "stylenorm"
KINDS = ("network", "style", "resume", "ranges")


def pack(kind: str, **values) -> dict[str, str]:
    """The metadata to hand to safetensors: one JSON object under one key."""
    text = json.dumps({"kind": kind, "format_version": FORMAT_VERSION} | values, ensure_ascii=False)
    return {KEY: text.encode(errors="backslashreplace").decode()}  # of a file's name that is no UTF-8


def read_metadata(path: str | Path, kind: str | None = None) -> dict:
    """What the file says of itself, or a `WeightsError` in one sentence.

    Checks that it is a whole safetensors file written by stylenorm, of a version that this one reads and, if
    ``kind`` is given, of that kind. Opens nothing but the header: no tensor is read and no code is run.
    """
    path = path_of(path, "a file of weights")
    header, size = read_header(path)
    try:
        values = json.loads(header.get("__metadata__", {})[KEY])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise WeightsError(f"{path} is a safetensors file, but stylenorm did not write it") from None
    version = values.get("format_version") if isinstance(values, dict) else None
    if type(version) is int and version > FORMAT_VERSION:
        raise WeightsError(f"{path} has format version {version}, this stylenorm reads up to {FORMAT_VERSION}; update stylenorm")
    if type(version) is not int or version < 1 or not _tells(values):
        raise WeightsError(f"{path} does not say what it holds; it was not written by stylenorm, or it was damaged")
    if kind is not None and values["kind"] != kind:
        raise WeightsError(f"{path} is a {values['kind']} file where a {kind} file is wanted")
    _check_extent(path, header, size)
    return values


def _tells(values: dict) -> bool:
    """Whether what every reader counts on is there."""
    named = values.get("kind") != "style" or isinstance(values.get("name"), str)
    return values.get("kind") in KINDS and named and isinstance(values.get("about", {}), dict)


def read_header(path: Path) -> tuple[dict, int]:
    """The parsed header, and how many bytes of tensors follow it."""
    try:
        if Path(path).is_fifo():  # nobody may ever write into it
            raise UnsupportedOperation
        with open(path, "rb") as file:
            start = file.read(8)
            total = file.seek(0, 2)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(total - 8, 100_000_000):
                raise WeightsError(f"{path} is not a safetensors file, or it was cut short; fetch it again")
            file.seek(8)
            header = json.loads(file.read(length))
    except FileNotFoundError:
        raise WeightsError(f"{path} does not exist") from None
    except UnsupportedOperation:
        raise WeightsError(f"{path} cannot be read: it is a pipe; give a file") from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path} is not a safetensors file (pickled weights are never loaded)") from None
    if not isinstance(header, dict):
        raise WeightsError(f"{path} is not a safetensors file")
    return header, total - 8 - length


def _check_extent(path: Path, header: dict, size: int) -> None:
    try:
        end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
    except (KeyError, TypeError, IndexError):
        raise WeightsError(f"{path} has a damaged header; fetch it again") from None
    if end != size:
        raise WeightsError(f"{path} is damaged: {end} bytes of tensors are announced, {size} are there; fetch it again")
