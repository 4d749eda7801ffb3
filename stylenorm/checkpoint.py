"""Network and style files: safetensors that describe themselves. No pickle is ever loaded."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from stylenorm.drafts import remove, replace, spare_read_only
from stylenorm.errors import StyleError, StylenormError, WeightsError, in_short, path_of
from stylenorm.generator import Generator, GeneratorConfig
from stylenorm.metadata import pack, read_metadata
from stylenorm.stored import checksum, damaged, first_line, generator_hash, intact, load_tensors, part, ranges_file, read_ranges
from stylenorm.style import Style, StyleEncoder


@dataclass
class Network:
    """A generator, the encoder that predicts its styles (or None), the generator's hash, and what is known of it."""

    generator: Generator
    encoder: StyleEncoder | None
    hash: str
    about: Mapping[str, object] = field(default_factory=dict)


def network_hash(generator: Generator) -> str:
    """16 hexadecimal digits of the configuration and of the weights as they are stored.

    A style means something to one set of generator weights alone; this is how the two recognise one another.
    """
    if not isinstance(generator, nn.Module) or not hasattr(generator, "config"):
        raise StylenormError(f"a Generator is wanted, which {in_short(generator)} is not")
    return generator_hash(generator.config.to_dict(), {k: _stored(k, v).numpy() for k, v in _weights(generator).items()})


def save_network(path: str | Path, generator: Generator, encoder: StyleEncoder | None, **about: object) -> str:
    """Write a network file, float16 but for batch norm's running statistics, and return the generator's hash.

    about: what else it is to tell, as JSON holds it. Raises `WeightsError` for weights that are not finite in float16.
    """
    tensors = {f"generator.{k}": _stored(k, v) for k, v in _weights(generator).items()}
    settings = None
    if encoder is not None:
        tensors |= {f"encoder.{k}": _stored(k, v) for k, v in _weights(encoder).items()}
        settings = {"statistics": encoder.mean.numel(), "hidden": encoder.layers[0].out_features}
    if not all(torch.isfinite(t).all() for t in tensors.values()):
        raise WeightsError(f"the network for {path} has weights that are not finite in float16; it was not written")
    values = {"config": generator.config.to_dict(), "encoder": settings, "hash": network_hash(generator), "about": about}
    write_tensors(path, tensors, pack("network", **values, checksum=checksum(_arrays(tensors))))
    return values["hash"]


def load_network(path: str | Path) -> Network:
    """Read a network file into float32 modules in eval mode. Raises `WeightsError` in one sentence."""
    values = read_metadata(path, "network")
    tensors = read_tensors(path)
    try:
        config = GeneratorConfig.from_dict(values["config"])
        if sum(config.blocks) > len(tensors):
            raise ValueError("more blocks than weights")
        encoder = None
        with torch.device("meta"):  # takes no memory, however large a network the file claims to hold
            generator = Generator(config)
            if values.get("encoder"):
                encoder = StyleEncoder(config.channels, **values["encoder"])
        generator.load_state_dict(_part(tensors, "generator."), assign=True)
        if encoder is not None:
            encoder.load_state_dict(_part(tensors, "encoder."), assign=True)
        whole = intact(_arrays(tensors), values)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise WeightsError(f"{path} does not hold the network that it describes ({first_line(error)})") from None
    digest = network_hash(generator)
    if digest != values.get("hash") or not whole:
        raise WeightsError(f"{path} is damaged: its weights do not match their hash; fetch it again")
    return Network(generator.eval(), encoder.eval() if encoder else None, digest, values.get("about", {}))


def save_ranges(network: str | Path, digest: str, ranges: Mapping[str, Tensor]) -> None:
    """Write what `stylenorm.ranges.measured_ranges` found beside its network file. digest: the network's hash.

    Not where it is not finite in float16: that network is not for 8 bits.
    """
    tensors = {name: value.half() for name, value in ranges.items()}
    if all(torch.isfinite(value).all() for value in tensors.values()):
        write_tensors(ranges_file(Path(network)), tensors, pack("ranges", network=digest, checksum=checksum(_arrays(tensors))))


def load_ranges(path: str | Path, network: Network) -> dict[str, np.ndarray] | None:
    """What was measured for a network file, or None."""
    return read_ranges(Path(path), network.hash, {k: v.numpy() for k, v in network.generator.state_dict().items()})


def save_style(path: str | Path, style: Style) -> None:
    """Write one style, float16, with its name, provenance and network's hash. Raises `StyleError` for one that lacks these or has regions."""
    if not isinstance(style, Style):
        raise StyleError(f"a Style is wanted, which {in_short(style)} is not")
    if not style.name or not isinstance(style.name, str) or style.network is None:
        raise StyleError("a style needs a name, which is a text, and its network's hash before it can be saved")
    if any(t.is_meta for t in style.gammas + style.betas):
        raise StyleError(f"the style {style.name!r} is on the meta device, and holds no numbers that could be saved")
    flat = style.flat().detach().half().cpu()
    if flat.shape[0] != 1 or not torch.isfinite(flat).all():
        raise StyleError(f"the style {style.name!r} is not one row of numbers that are finite in float16")
    tensors = {"gamma": flat[0, 0], "beta": flat[0, 1]}
    about = checked_provenance(style.provenance)
    values = {"name": style.name, "network": style.network, "channels": list(style.channels), "about": about}
    write_tensors(path, tensors, pack("style", **values, checksum=checksum(_arrays(tensors))))


def checked_provenance(about: Mapping[str, object] | None) -> dict[str, object]:
    """A copy of what is told about a style. Raises `StyleError` where a style file cannot hold it."""
    try:
        about = dict(about or {})
        json.dumps(about)
    except (TypeError, ValueError, RecursionError) as error:
        raise StyleError(f"what is told about a style must be names with what JSON holds, text and numbers above all ({error})") from None
    return about


def statistics_text(statistics: Tensor) -> str:
    """A painting's statistics (1, D), as `stylenorm.perceptual.style_statistics` gives them, as text for a style's provenance: float16, base64."""
    return base64.b64encode(statistics.detach().cpu().numpy().astype("<f2").tobytes()).decode()


def statistics_told(style: Style) -> Tensor | None:
    """What `statistics_text` wrote, (1, D) float32, or None where the provenance tells nothing of the kind."""
    try:
        told = np.frombuffer(base64.b64decode(style.provenance["statistics"], validate=True), "<f2").astype(np.float32)
    except (KeyError, TypeError, ValueError):
        return None
    return torch.from_numpy(told)[None] if told.size and np.isfinite(told).all() else None


def load_style(path: str | Path, network: str | None = None) -> Style:
    """Read a style file; with ``network`` (a hash), refuse a style of another network.

    Raises `StyleError` for that, and `WeightsError` for a file that is damaged or no style.
    """
    values = read_metadata(path, "style")
    if network is not None and values.get("network") != network:
        raise StyleError(f"the style in {path} was trained for another network; train it again for this one")
    tensors = read_tensors(path)
    try:
        channels = [int(c) for c in values["channels"]]
        flat = torch.stack([tensors["gamma"].float(), tensors["beta"].float()])[None]
        if not torch.isfinite(flat).all():
            raise ValueError("not finite")
        if not intact(_arrays(tensors), values):
            raise ValueError("its numbers do not match their checksum")
        return Style.from_flat(
            flat, channels, name=values["name"], provenance=values.get("about", {}), network=values["network"]
        )
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise WeightsError(f"{path} does not hold the style that it describes ({first_line(error)})") from None


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file under a temporary name, then rename it: never half a file."""
    path = path_of(path, "the file to write")
    data = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, dict(metadata))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        spare_read_only(path)
        with open(temporary, "xb") as file:  # and not tempfile, whose files nobody else may read
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)
    except OSError as error:
        raise StylenormError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        remove(temporary)  # there only if something, an interrupt included, has gone wrong


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    try:
        return load_tensors(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(path, error) from None


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of a module as if `torch.compile` had wrapped neither it nor a part of it."""
    return {k.replace("_orig_mod.", ""): v for k, v in module.state_dict().items()}


def _stored(key: str, value: Tensor) -> Tensor:
    """Weights shrink to float16; running statistics may exceed its range and keep their type."""
    if value.is_meta:
        raise WeightsError(f"the network's {key} is on the meta device, and holds no numbers; load the weights first")
    value = value.detach().cpu()
    return value.half() if value.is_floating_point() and "running_" not in key else value


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {k: v.detach().cpu().numpy() for k, v in tensors.items()}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Floats in float32, and copies all of them: the rest would be the file, mapped, which Windows then lets nobody replace."""
    return {k: v.to(torch.float32 if v.is_floating_point() else v.dtype, copy=True) for k, v in part(tensors, prefix).items()}
