"""The arrays in a safetensors file, and the digests that vouch for them. Without torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load

from stylenorm.architecture import vgg_shapes
from stylenorm.errors import WeightsError
from stylenorm.metadata import read_header, read_metadata

# The shipped file of VGG-16 is older than checksums in files: what it says of itself, and what it holds.
VGG_LAYOUT = "torchvision.models.vgg16().features, layers 0 to 21 (conv1_1 to conv4_3), float16"
VGG_CHECKSUM = "f8660cf22a7f50f3"

UNREADABLE = SafetensorError, OSError, ValueError, TypeError, KeyError  # what reading a file that is no good raises


def read_arrays(path: str | Path, prefix: str = "") -> dict[str, np.ndarray]:
    """Those whose names begin with ``prefix``; the others are not read."""
    try:
        return _arrays_in(path, prefix)
    except UNREADABLE as error:
        raise damaged(path, error) from None


def read_vgg(path: str | Path) -> dict[str, np.ndarray]:
    """VGG-16's features, by torchvision's names without ``features.``.

    Raises what `stylenorm.perceptual.VGGFeatures.from_file` raises: torch need not be there to tell what is wrong with a file.
    """
    try:
        found = _arrays_in(path)
        check_shipped_vgg(path, found)
        arrays = {name.removeprefix("features."): array for name, array in found.items()}
        check_vgg(arrays, vgg_shapes())
    except UNREADABLE as error:
        raise no_vgg(path, error) from None
    return arrays


def check_vgg(found: Mapping, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raise a ValueError where arrays or tensors are not of the shapes ``wanted``."""
    wrong = [name for name, shape in wanted.items() if name not in found or tuple(found[name].shape) != tuple(shape)]
    if wrong:
        raise ValueError(f"these are not VGG-16's features: {wrong[0]} is missing or of another shape")


def check_shipped_vgg(path: str | Path, found: Mapping) -> None:
    """Raise a ValueError where a file says that it is the shipped one of VGG-16, and its arrays or tensors ``found`` are others.

    Files of anybody else's are not known. It takes some hundredths of a second, which a command that has a compiled model does not spend.
    """
    told = read_header(path)[0].get("__metadata__") or {}
    if told.get("layout") == VGG_LAYOUT and checksum({name: np.asarray(value) for name, value in found.items()}) != VGG_CHECKSUM:
        raise ValueError("its numbers do not match their checksum")


def no_vgg(path: str | Path, error: BaseException) -> WeightsError:
    if isinstance(error, FileNotFoundError):
        return WeightsError(f"{path} does not exist; give a safetensors file of VGG-16's features")
    return WeightsError(f"{path} does not hold VGG-16's features ({first_line(error)}); fetch it again")


def _arrays_in(path: str | Path, prefix: str = "") -> dict[str, np.ndarray]:
    if not _in_utf8(path):
        return {name: array for name, array in load(Path(path).read_bytes()).items() if name.startswith(prefix)}
    with safe_open(str(path), "np") as file:
        return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}


def load_tensors(path: str | Path) -> dict:
    """What `safetensors.torch.load_file` gives, which opens no file whose name is no UTF-8.

    On Windows without mapping the file: nobody could replace it there until the last tensor is gone, nor a damaged one by a whole one.
    """
    import torch
    from safetensors import torch as files

    with torch.device("cpu"):  # safetensors before 0.6 reads onto torch's default device
        mapped = os.name != "nt" and _in_utf8(path)
        return files.load_file(str(path)) if mapped else files.load(Path(path).read_bytes())


def _in_utf8(path: str | Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def damaged(path: str | Path, error: BaseException) -> WeightsError:
    return WeightsError(f"{path} is damaged ({first_line(error)}); fetch it again")


def generator_hash(config: Mapping[str, object], weights: Mapping[str, np.ndarray]) -> str:
    """16 hexadecimal digits of a generator's configuration and of its weights as they are stored."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for key, value in sorted(weights.items()):
        digest.update(key.encode())
        digest.update(value.tobytes())
    return digest.hexdigest()[:16]


def checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """16 hexadecimal digits of everything in a file, the encoder included, so that a flipped bit does not pass."""
    digest = hashlib.sha256()
    for key, value in sorted(arrays.items()):
        digest.update(f"{key} torch.{value.dtype} {value.shape} ".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()[:16]


def intact(arrays: Mapping[str, np.ndarray], values: Mapping[str, object]) -> bool:
    """Whether ``arrays`` are those that the file's metadata ``values`` were written for."""
    return values.get("checksum") in (None, checksum(arrays))  # the first files had none


def ranges_file(network: Path) -> Path:
    """Beside a network file, what `stylenorm.ranges` has measured for it; it need not be there."""
    return network.with_name(f"{network.stem}.ranges.safetensors")


def read_ranges(network: Path, digest: str, generator: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """What `stylenorm.ranges.measured_ranges` found for a network file, or None where that was not measured.

    digest: the network's hash. generator: its weights by their names. Raises `WeightsError` for a damaged file.
    """
    path = ranges_file(network)
    if not path.is_file():
        return None
    values = read_metadata(path, "ranges")
    if values.get("network") != digest:
        return None
    arrays = read_arrays(path)
    wanted = {name.removesuffix(".weight").removesuffix(".conv"): w.shape[1] for name, w in generator.items() if w.ndim == 4}
    if not intact(arrays, values) or {name: value.size for name, value in arrays.items()} != wanted:
        raise damaged(path, ValueError("not what was measured for its network"))
    return {name: value.astype(np.float32) for name, value in arrays.items()}


def part(tensors: Mapping, prefix: str) -> dict:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
