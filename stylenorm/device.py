"""Which device to compute on."""

from __future__ import annotations

import torch

from stylenorm.errors import StylenormError


def choose_device(name: str) -> torch.device:
    """"auto" is CUDA, else MPS, else the CPU. Asking for what is not there is an error."""
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(d for d in has if has[d]))
    if not has.get(name.split(":")[0], False):
        raise StylenormError(f"there is no device {name!r} here; choose {', '.join(d for d in has if has[d])} or auto")
    try:
        return torch.device(name)
    except RuntimeError:
        raise StylenormError(f"{name!r} is not a device; choose {', '.join(d for d in has if has[d])} or auto") from None
