"""What to compute on: the device, its memory and its peak, and the processes that train together."""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from stylenorm.errors import StylenormError, out_of_memory
from stylenorm.machine import free_main_memory


def choose_device(name: str | torch.device) -> torch.device:
    """"auto" is CUDA, else MPS, else the CPU. Asking for what is not there is an error."""
    name = str(name)
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(d for d in has if has[d]))
    if not has.get(name.split(":")[0], False):
        raise StylenormError(f"there is no device {name!r} here; choose {', '.join(d for d in has if has[d])} or auto")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise StylenormError(f"{name!r} is not a device; choose {', '.join(d for d in has if has[d])} or auto") from None
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= count and device.type != "cpu":
        raise StylenormError(f"there is no device {name!r} here; choose {', '.join(f'{device.type}:{i}' for i in range(count))} or auto")
    return device


@contextmanager
def usual_defaults() -> Iterator[None]:
    """What is made inside and says nothing of it is float32 and on the CPU, whatever torch's defaults are outside.

    For modules, which say nothing of it. The default dtype is one for all threads, so not for longer than that takes.
    """
    cpu = torch.device("cpu")
    with nullcontext() if torch.get_default_device() == cpu else cpu, _default_dtype:  # which a tracer would keep
        before = torch.get_default_dtype()
        if before != torch.float32:
            torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            if before != torch.float32:
                torch.set_default_dtype(before)


_default_dtype = threading.RLock()  # or of two threads one would keep what the other had set for a while


# ---- memory and speed --------------------------------------------------------------------------


@contextmanager
def telling_memory(advice: str) -> Iterator[None]:
    """Where memory is short, one sentence with ``advice``, as a `StylenormError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise StylenormError(f"this needs more memory than there is; {advice}") from None


def free_memory(device: torch.device) -> int | None:
    """Bytes of memory that can be taken on ``device`` without swapping; None where the system does not tell."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return free_main_memory() if device.type in ("cpu", "mps") else None  # a Mac has one memory for both


def most_in_a_map(device: torch.device) -> float:
    """Bytes that a feature map may take: on a Mac's GPU one of more than 4 GB ends the process (https://github.com/pytorch/pytorch/issues/149325)."""
    return 2**32 if device.type == "mps" else math.inf


AHEAD = 4  # batches that a process which prepares pictures has ready


def loading_processes(device: torch.device, together: int = 1) -> int:
    """How many processes prepare pictures for one that trains: none on a CPU, which has other work, up to 8 for CUDA."""
    if device.type != "cuda":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    return max(1, min(8, cores // together - 1))


def loading_ahead(wanted: int, batch: int, device: torch.device, group: Group) -> tuple[int, int]:
    """How many of ``wanted`` processes that prepare pictures there is room for, and how many batches each may have ready.

    Batches, of ``batch`` bytes, are handed on in /dev/shm, of which a container has 64 MB; those of the whole ``group`` lie there.
    """
    try:
        shared = os.statvfs("/dev/shm") if sys.platform == "linux" else None
    except OSError:
        shared = None
    if shared is None:
        return wanted, AHEAD
    size = batch * group.size * 10 // 9  # others put something there, too
    in_use = 0 if device.type == "cuda" else 2  # this step's batch and the next, which for a GPU lie elsewhere by then
    room = max(0, shared.f_bavail * shared.f_frsize // size - in_use)
    processes = min(wanted, room)
    if processes < wanted and group.first:
        told = f"/dev/shm has room for {processes} of the {wanted} processes that were to load pictures"
        more = (wanted * AHEAD + in_use) * size // 10**6 + 1
        logging.getLogger("stylenorm").warning("stylenorm: %s; make it larger, in a container with --shm-size %dm, to train faster", told, more)
    return processes, min(AHEAD, room // max(1, processes))


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile pays: on CUDA, by a GPU that Triton makes kernels for, and with the C compiler and the headers that it needs."""
    if device.type != "cuda" or find_spec("triton") is None or (not torch.version.hip and torch.cuda.get_device_capability(device) < (7, 0)):
        return False
    compilers = [os.environ.get("CC"), "cc", "gcc", "clang"]
    headers = [sysconfig.get_path("include", scheme) for scheme in (sysconfig.get_default_scheme(), "posix_prefix")]  # Debian's own are the latter
    return any(shutil.which(c) for c in compilers if c) and any(Path(folder, "Python.h").is_file() for folder in headers)


def autocast(device: torch.device) -> torch.autocast:
    """Compute losses in bfloat16 where they may be and that is quick: not on MPS, where not all that they need is there, and not
    on processors that have none, as those of Macs and of most laptops, which take several times as long as in float32."""
    quick = cpu_bfloat16() if device.type == "cpu" else gpu_bfloat16(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=quick)


def memory_format(device: torch.device) -> torch.memory_format:
    """How maps lie in memory: channels-last, which is quicker, but not on MPS, where the gradient of pooling ends the process then,
    or is wrong (https://github.com/pytorch/pytorch/issues/175190)."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def turn(device: torch.device) -> AbstractContextManager:
    """For as long as the block lasts, no other thread is at a Mac's GPU: of two at once, torch ends the process
    (https://github.com/pytorch/pytorch/issues/197805). Elsewhere it changes nothing."""
    return _turn if device.type in ALONE else nullcontext()


def in_turn(method: Callable) -> Callable:
    """A method of what has a ``device``, called in its `turn`."""

    @wraps(method)
    def alone(self, *arguments, **options):
        with turn(self.device):
            return method(self, *arguments, **options)

    return alone


ALONE = frozenset(["mps"])
_turn = threading.RLock()


def gpu_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` is a CUDA one that computes in bfloat16; older ones emulate it, slowly."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def cpu_bfloat16() -> bool:
    """Whether oneDNN is there, which not every build of PyTorch has, and this processor computes in bfloat16."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """For as long as the block lasts, CUDA computes the same bits in every run, or else as fast as it can.

    Pictures of a training run have one size, so cuDNN may try out which of its convolutions is the fastest.
    """
    before, tried = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = not wanted
    if wanted:
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = tried


# Dense bfloat16 with float32 sums, in FLOP/s, from NVIDIA's data sheets. The first row whose words are all in the name counts.
PEAKS = (
    (("B200",), 2250e12),
    (("H200",), 989e12),
    (("H100", "PCIe"), 756e12),
    (("H100",), 989e12),
    (("A100",), 312e12),
    (("L40S",), 362e12),
    (("L4",), 121e12),
)


def peak_flops(name: str) -> float | None:
    """The bfloat16 peak of the GPU called ``name``, in FLOP/s, or None where it is not known."""
    words = set(re.split(r"[\s-]+", name))
    return next((peak for wanted, peak in PEAKS if words.issuperset(wanted)), None)


# ---- several processes -------------------------------------------------------------------------

PATIENCE = 5  # seconds after which the first process has told what goes for all, and torchrun has ended the others


@dataclass(frozen=True)
class Group:
    """This process among the ``size`` that train together. The one of rank 0 writes and speaks for all."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """The mean of ``values`` over the processes, of any shape; the same in each."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def all(self, items: list) -> list:
        """The lists of all processes in one, in order of rank."""
        if self.size == 1:
            return items
        found: list = [None] * self.size
        dist.all_gather_object(found, items)
        return [item for part in found for item in part]

    def device(self, name: str) -> torch.device:
        """`choose_device`; of several GPUs each process takes its own."""
        device = choose_device(name)
        if self.size == 1:
            return device
        if device.type == "mps":
            raise StylenormError("several processes train on CUDA or on a CPU; give --device cpu, or leave torchrun out")
        if device.type == "cuda":
            count = torch.cuda.device_count()
            if self.local >= count:
                raise StylenormError(f"torchrun started more processes than there are GPUs; give it --nproc-per-node={count}")
            device = torch.device("cuda", self.local)
            torch.cuda.set_device(device)
        return device


def _told_by_torchrun() -> Group:
    """This process by torchrun's variables; alone where one of them is missing."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if not all(os.environ.get(name) for name in names):
        return Group()
    told = {name: os.environ[name] for name in names if name != "MASTER_ADDR"}
    numbers = [int(text) if text.strip().isdecimal() else -1 for text in told.values()]
    rank, size, local, _ = numbers
    if min(numbers) < 0 or size > 1 and rank >= size:  # one beyond the last would wait for ever
        values = ", ".join(f"{name}={text}" for name, text in told.items())
        raise StylenormError(f"{values} is no place among processes that train together; start them with torchrun, or unset WORLD_SIZE to train alone")
    return Group(rank, size, local)


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """Join the processes that torchrun started, for as long as the block lasts; alone if it started none.

    device: what they will compute on; decides how they talk, by NCCL between GPUs, where it is there, and by gloo else.
    """
    group = _told_by_torchrun()
    if group.size < 2:
        yield Group()
        return
    chosen = group.device(device)
    try:
        dist.init_process_group("nccl" if chosen.type == "cuda" and dist.is_nccl_available() else "gloo")  # there is no NCCL for Windows
    except (ValueError, dist.DistError) as error:
        where, told = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}", str(error).splitlines()[0]
        raise StylenormError(f"the processes of this training do not find one another at {where} ({told}); start them with torchrun") from None
    ended = False
    try:
        yield group
        ended = True
    except StylenormError as error:
        if not group.first:
            time.sleep(PATIENCE)
            logging.getLogger("stylenorm").error("stylenorm: process %d of this training: %s", group.rank, error)
        raise
    except RuntimeError as error:
        if not isinstance(error, dist.DistBackendError) and "gloo" not in str(error):
            raise
        raise StylenormError("another process of this training has ended; torchrun tells which; go on from the last checkpoint with --resume") from None
    finally:
        if ended or chosen.type != "cuda":  # NCCL waits there for the others, which may wait for what this process will not do
            dist.destroy_process_group()
