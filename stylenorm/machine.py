"""This machine, as far as it can be known without torch: its memory, and whether it might have a GPU."""

from __future__ import annotations

import math
import os
import platform
import re
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np


def machine_memory() -> int:
    """Bytes of main memory that this machine, or the container on it, has; 4 GiB where nothing tells."""
    known = [4 << 30]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    elif (told := _told_memory()) is not None:
        known = [told.total]
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else ""
    return min(known + ([int(text)] if text.isdigit() else []))


def free_main_memory() -> int | None:
    """Bytes of main memory that can be taken without swapping; None where the system does not tell."""
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":") for line in file)
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        told = _told_memory()
        return None if told is None else told.available
    return min(free, _left_to_container())


def _told_memory():
    """What psutil knows of main memory, which comes with this package where the system is not Linux; else None."""
    try:
        import psutil

        return psutil.virtual_memory()
    except Exception:  # noqa: BLE001: not there, or not for this system
        return None


def _left_to_container() -> float:
    """Bytes that the container, if this is one, lets us take: its limit less what is taken and cannot be given back."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, taken = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(0, limit - taken + int(stat["inactive_file"]))
    except (OSError, KeyError, ValueError):  # "max" is no number
        return math.inf


def processor() -> str:
    """What this processor is called and what it can do, as far as the system tells."""
    try:
        with open("/proc/cpuinfo") as file:
            return "".join(line for line in file.read(16384).split("\n\n")[0].splitlines(True) if line.startswith(("model", "flags", "Features", "CPU")))
    except OSError:
        return f"{platform.machine()} {platform.processor()}"


def has_avx512() -> bool:
    """Whether this processor has AVX-512, as far as NumPy tells, by the names of single extensions or of x86-64's levels."""
    found = np.show_config(mode="dicts").get("SIMD Extensions", {})
    return any(name == "X86_V4" or name.startswith("AVX512") for kind in ("baseline", "found") for name in found.get(kind, ()))


def may_have_gpu() -> bool:
    """Whether torch might find a GPU here, asked without importing it: False only where there is surely none."""
    torch = find_spec("torch")
    if torch is None or torch.origin is None:  # painting in a named style does without it
        return False
    if sys.platform == "darwin":
        return True
    version = Path(torch.origin).with_name("version.py")
    with suppress(OSError):
        if set(re.findall(r"^(?:cuda|hip|rocm)\b.*= *(.+)$", version.read_text(), re.M)) == {"None"}:  # a build for CPUs
            return False
    if sys.platform == "linux":
        return any(os.path.exists(f"/dev/{name}") for name in ("nvidiactl", "dxg", "kfd"))
    return True
