"""The checkpoint that a run goes on from: every weight, its moving average and Adam's, in one atomic file. And one run a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stylenorm.checkpoint import read_tensors, write_tensors
from stylenorm.config import USUAL, TrainConfig, settled
from stylenorm.drafts import remove
from stylenorm.errors import StylenormError, WeightsError
from stylenorm.manifest import TAKEN, lock_file
from stylenorm.metadata import pack, read_metadata

# Settings that make another run of it if they change.
FIXED = ("batch", "seed", "size", "named_share", "norm", "num_groups", "widths", "blocks", "grow", "widen", "encoder_width", "optimizer")


def mark_of(file: str | Path | None) -> str | None:
    """What tells a network file from others, wherever it lies; None where there is none, or none that can be read."""
    try:
        values = read_metadata(file, "network") if file else {}
    except WeightsError:
        return None
    return values.get("checksum") or values.get("hash")


def save_state(
    path: Path, models: Mapping[str, nn.Module], optimizer: Optimizer, config: TrainConfig, names: Sequence[str],
    styles_of: str | None = None, starts_from: str | None = None, **counts: float,
) -> None:
    """Write everything that a resumed run needs.

    models: by what they are called in the file; names: of the styles; styles_of: the hash of the network that has them,
    if that is another one; starts_from: what `mark_of` gave for the network of --init.
    """
    tensors = {f"{name}.{k}": v for name, model in models.items() for k, v in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    write_tensors(path, tensors, pack("resume", **counts, config=asdict(config), names=list(names), styles_of=styles_of, starts_from=starts_from))


def as_begun(config: TrainConfig, path: Path) -> TrainConfig:
    """``config`` with what it leaves to the device as the run of ``path`` has it, which may have been begun on another one."""
    before = read_metadata(path, "resume")["config"]
    config = replace(config, **{name: before[name] for name in USUAL if getattr(config, name) is None and name in before})
    return settled(config)  # the first files do not tell all, and are those of CPUs


def load_state(
    path: Path, models: Mapping[str, nn.Module], optimizer: Optimizer, config: TrainConfig, names: Sequence[str],
    styles_of: str | None = None, starts_from: str | None = None,
) -> dict[str, Any]:
    """Fill models and optimizer from what `save_state` wrote, and return the rest of it, the counts above all.

    Raises `StylenormError` if the run was begun by another command, with other styles, or with other settings of those
    that are `FIXED`.
    """
    values = read_metadata(path, "resume")
    before = values.get("styles_of", styles_of)  # which the first files did not tell
    if bool(before) != bool(styles_of):
        raise StylenormError(f"the run in {path.parent} is one of {'train-generate' if before else 'train'}; give another --out")
    if before != styles_of:
        raise StylenormError(f"the run in {path.parent} takes the styles of another network; give --init again as it was")
    if values["names"] != list(names):
        told = f"with the styles {', '.join(values['names'])}; give them again, with --styles and --names"
        raise StylenormError(f"the run in {path.parent} was started {told if values['names'] else 'without --styles; leave it out'}")
    settings = json.loads(json.dumps(asdict(config)))
    for key in FIXED:
        before = values["config"].get(key, settings[key])
        if before != settings[key]:
            option = f"--{key.replace('_', '-')}"
            if before in ([], None):
                raise StylenormError(f"the run in {path.parent} was started without {option}; leave it out")
            before, now = (",".join(map(str, v)) if isinstance(v, list) else v for v in (before, settings[key]))
            now = "" if now in ("", None) else f", not {now}"
            raise StylenormError(f"the run in {path.parent} was started with {option} {before}{now}; give it again as it was")
    init = values["config"].get("init", config.init)  # neither of which earlier files told
    before = values.get("starts_from") or mark_of(init)
    if config.init and not init and not before:  # it would change nothing
        raise StylenormError(f"the run in {path.parent} was started without --init; leave it out")
    if starts_from and before and before != starts_from:  # it would change nothing, either
        raise StylenormError(f"the run in {path.parent} was started from another network than {config.init}; give --init {init or 'as it was'} again")
    before = values["config"].get("paintings", config.paintings)
    if bool(before) != bool(config.paintings):  # of which folder is free: it may have moved
        told = f"with --paintings {before}; give it again" if before else "without --paintings; leave it out"
        raise StylenormError(f"the run in {path.parent} was started {told}")
    tensors = read_tensors(path)
    try:
        for name, module in models.items():
            module.load_state_dict({k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")})
    except RuntimeError:
        more = f"; the run was started with --init {init}, give it again" if init and not config.init else ""
        raise StylenormError(f"{path} belongs to a network of another shape{more}") from None
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            weight = weights[int(index)]  # what belongs to each of its numbers lies as these do: else steps are slow
            kept = torch.empty_like(weight if weight.shape == value.shape else value)
            state.setdefault(int(index), {})[name] = kept.copy_(value)  # `value` is the file, mapped, which Windows then lets nobody replace
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return values


# ---- one run a folder --------------------------------------------------------------------------

LOCK = ".stylenorm-training.lock"
_held: set[int] = set()  # files that this process holds


@contextmanager
def no_empty(folder: Path) -> Iterator[None]:
    """A run that does not begin leaves no folder behind that was not there before."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):  # what is in there stays
            for path in missing:
                path.rmdir()
        raise


@contextmanager
def alone_in(folder: Path, style: str | None = None) -> Iterator[None]:
    """For as long as the block lasts, nobody else trains into ``folder``, which is made if need be; or just the one ``style`` in it.

    A process that is killed holds it no longer. Where nothing can be written or held, nobody is kept out. Raises
    `StylenormError` where another training is at work.
    """
    lock, file = folder / (LOCK if style is None else f".{style.casefold()}{LOCK}"), None
    with suppress(OSError):  # which the run tells as soon as it writes
        folder.mkdir(parents=True, exist_ok=True)
        file = _held_file(lock, style)
    try:
        yield
    finally:
        if file is not None:
            _give_up(file, lock)


def _held_file(lock: Path, style: str | None, tries: int = 9) -> int:
    file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        lock_file(file)
    except OSError as error:
        if error.errno not in TAKEN:  # nothing can be held there
            _give_up(file, lock)
            raise
        os.close(file)
        told = f"another training is writing into {lock.parent}" if style is None else f"another training is at work on the style {style!r}"
        raise StylenormError(f"{told}; wait for it, or stop it, or give another {'folder' if style is None else 'name'}") from None
    if tries and not os.fstat(file).st_nlink:  # whoever held it has removed it meanwhile
        os.close(file)
        return _held_file(lock, style, tries - 1)
    _held.add(file)
    return file


def _give_up(file: int, lock: Path) -> None:
    _held.discard(file)
    if os.name == "nt":  # nobody removes an open file there
        os.close(file)
        remove(lock)
    else:  # and here nobody else's
        remove(lock)
        os.close(file)


def _let_go() -> None:
    """What a process inherits it would hold as long as it lives: one that loads pictures outlives a killed training by seconds."""
    for file in _held:
        with suppress(OSError):
            os.close(file)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
