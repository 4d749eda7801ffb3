"""Another kind of normalization in a network that somebody else wrote, and the running moments that it then needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from stylenorm.errors import in_short
from stylenorm.functional import KINDS
from stylenorm.layers import BatchNorm2d, ConditionalNorm, GroupNorm, InstanceNorm2d, LayerNorm2d

Norm = BatchNorm2d | InstanceNorm2d | LayerNorm2d | GroupNorm
LAZY = (nn.LazyBatchNorm2d, nn.LazyInstanceNorm2d)
SWAPPED = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm2d, nn.GroupNorm, BatchNorm2d, InstanceNorm2d, LayerNorm2d, GroupNorm, *LAZY)
RUNNING = (nn.BatchNorm2d, nn.SyncBatchNorm, BatchNorm2d, ConditionalNorm)  # the last one where it is of the kind "batch"


def swap_norms(model: nn.Module, kind: str, num_groups: int | None = None) -> nn.Module:
    """Make every normalization of feature maps in ``model`` one of ``kind``: "batch", "layer", "instance" or "group".

        resnet = swap_norms(torchvision.models.resnet18(), "group")

    What is swapped: `torch.nn`'s BatchNorm2d, SyncBatchNorm, InstanceNorm2d and GroupNorm, and this package's four that
    own a weight and a bias. Everything else stays, `torch.nn.LayerNorm`, BatchNorm1d, BatchNorm3d and `ConditionalNorm` among it;
    a `Generator`, which has nothing but the last, takes its kind from its `GeneratorConfig` and is refused.

    γ and β stay: weight and bias are the same parameters as before, so that an optimizer made earlier still holds them,
    and a layer that had none gets none. So do eps, momentum, device, dtype and training or eval mode; forward hooks of
    the old layer are lost. Running moments go from batch norm to batch norm only. A new batch norm has those of no
    batch, mean 0 and variance 1, until it is trained or `recalibrate` is called. A `torch.nn.SyncBatchNorm` stays what
    it is where ``kind`` is "batch", because this package's takes the moments of one process.

    A `torch.nn.GroupNorm` is swapped whatever it is fed. It takes (N, C, L) and the like, too; of the four that take its place
    only the `GroupNorm` does, and the others take maps (N, C, H, W), instance norm also (C, H, W), as which it reads (N, C, L).

    Args:
        model: changed in place.
        num_groups: of kind "group", by default as many as a layer had, or 32 (Wu and He 2018).

    Returns:
        ``model``; where that is itself a normalization, the new one.

    Raises:
        ValueError: no such kind; ``num_groups`` does not divide a layer's channels; a lazy layer that has seen no map yet;
            a layer whose class has a forward of its own, such as a batch norm with its activation, or whose weight is
            computed, as by `torch.nn.utils.parametrize`; nothing to swap. ``model`` is as it was, then.
    """
    _need_module(model)
    if kind not in KINDS:
        raise ValueError(f"no norm {kind!r}; choose one of {', '.join(KINDS)}")
    new: dict[int, Norm] = {}  # by the old one's id: a layer that is used in two places stays one layer
    places = []
    near = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    for path, old in model.named_modules(remove_duplicate=False):
        if not isinstance(old, SWAPPED) or (kind == "batch" and isinstance(old, nn.SyncBatchNorm)):
            continue
        if id(old) not in new:
            try:
                new[id(old)] = _another(old, kind, num_groups, near)
            except ValueError as error:
                raise ValueError(f"{path or type(old).__name__}: {error}") from None
        places.append((path, new[id(old)]))
    if not places:
        raise ValueError(f"there is no normalization of feature maps to swap in {type(model).__name__}{_stays(model)}")
    for path, norm in places:
        if not path:
            return norm
        owner, _, name = path.rpartition(".")
        setattr(model.get_submodule(owner), name, norm)
    return model


def _stays(model: nn.Module) -> str:
    """What of ``model`` may have been meant."""
    for m in model.modules():
        if isinstance(m, ConditionalNorm):
            return "; its ConditionalNorm takes its kind when it is made, in a Generator from GeneratorConfig(norm=...)"
        if isinstance(m, nn.LayerNorm):
            return f"; its {type(m).__name__} is a torch.nn.LayerNorm, which stays"
    return ""


def _need_module(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"a torch.nn.Module is wanted, which {in_short(model)} is not")


def _another(old: nn.Module, kind: str, num_groups: int | None, near: Tensor) -> Norm:
    """A layer of ``kind`` with the γ, β and settings of ``old``; where that holds no tensor, with ``near``'s device and dtype."""
    if isinstance(old, LAZY):
        raise ValueError("a lazy layer gets its channels from the first map: run the model once before")
    if not any(type(old).forward is known.forward for known in SWAPPED):
        raise ValueError(f"{type(old).__name__} has a forward of its own, which would be lost; put another layer there by hand")
    if any(t is not None and not isinstance(t, nn.Parameter) for t in (old.weight, old.bias)):
        raise ValueError("its weight or bias is computed, and no parameter to keep; remove the parametrization before")
    channels = old.num_channels if isinstance(old, nn.GroupNorm) else old.num_features
    running = getattr(old, "running_mean", None)
    held = next((t for t in (old.weight, old.bias, running) if t is not None), near)
    settings = {"eps": old.eps, "affine": old.weight is not None, "device": held.device, "dtype": held.dtype}
    if kind == "batch":
        kept = isinstance(old, RUNNING)
        tracked = old.track_running_stats if kept else True
        new = BatchNorm2d(channels, track_running_stats=tracked, **settings)
        if kept:  # also where the flag was unset later: torch uses the moments in eval mode all the same
            new.running_mean, new.running_var, new.num_batches_tracked = old.running_mean, old.running_var, old.num_batches_tracked
    elif kind == "instance":
        new = InstanceNorm2d(channels, **settings)
    elif kind == "layer":
        new = LayerNorm2d(channels, **settings)
    else:
        had = old.num_groups if isinstance(old, (nn.GroupNorm, GroupNorm)) else 32
        if num_groups is None and channels % had:
            raise ValueError(f"the {had} groups that are taken where none are asked for do not divide {channels} channels; give num_groups")
        new = GroupNorm(had if num_groups is None else num_groups, channels, **settings)
    new.weight, new.bias = old.weight, old.bias
    new.momentum = getattr(old, "momentum", new.momentum)  # of use to batch norm alone, which may come next
    return new.train(old.training)


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give the batch norms of ``model`` the running moments of ``batches``: the mean over all of them, old ones forgotten.

    For `torch.nn.BatchNorm2d` and SyncBatchNorm this is `torch.optim.swa_utils.update_bn`, which does not know this
    package's layers, and passes over those whose ``track_running_stats`` was unset. Only batch norms are in training mode meanwhile, so that dropout, say, is as in use. Weights, modes and
    momentum are as before afterwards; where a batch fails, the running moments are, too.

    Args:
        batches: what ``model`` takes, each a tensor or, as a `DataLoader` gives them, a sequence that begins with it; on
            any device. Batches of one size count alike.

    Raises:
        ValueError: no batch norm with running moments in ``model``, or no batch.
    """
    _need_module(model)
    if not isinstance(batches, Iterable):
        raise TypeError(f"batches are given one after another, as by a DataLoader or in a list, and not as {in_short(batches)}")
    norms = [m for m in model.modules() if isinstance(m, RUNNING) and m.running_mean is not None]
    if not norms:
        raise ValueError(f"{type(model).__name__} has no batch norm with running moments")
    device = norms[0].running_mean.device
    count = 0
    with _only_training(model, norms):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # every batch counts alike
        for batch in batches:
            first = batch[0] if isinstance(batch, (list, tuple)) and batch else batch
            if not isinstance(first, Tensor):
                raise TypeError(f"a batch is a tensor, or a sequence that begins with one, which {in_short(batch)} is not")
            model(first.to(device))
            count += 1
        if not count:
            raise ValueError("there is no batch to measure the moments of")


@contextmanager
def _only_training(model: nn.Module, norms: list[nn.Module]) -> Iterator[None]:
    """``norms`` in training mode and all else in eval mode; as before afterwards, after an error the moments as well."""
    modes = [(m, m.training) for m in model.modules()]
    settings = [(norm.momentum, norm.track_running_stats) for norm in norms]
    moments = [[b.clone() for b in norm.buffers()] for norm in norms]
    model.eval()
    for norm in norms:
        norm.training = norm.track_running_stats = True
    try:
        yield
    except BaseException:
        for norm, before in zip(norms, moments):
            for buffer, value in zip(norm.buffers(), before):
                buffer.copy_(value)
        raise
    finally:
        for module, mode in modes:
            module.training = mode
        for norm, before in zip(norms, settings):
            norm.momentum, norm.track_running_stats = before
