"""A model in OpenVINO on the CPU: compiled now, or taken from where an earlier process has left it. Without torch."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, wraps
from io import BytesIO
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from stylenorm.compat import openvino, openvino_core
from stylenorm.machine import processor

Made = TypeVar("Made")

# OpenVINO computes one request after another here. That it makes and frees them at the same time has crashed once.
turn = threading.Lock()
if hasattr(os, "register_at_fork"):  # a process that is forked off meanwhile would wait for its turn for ever
    os.register_at_fork(before=turn.acquire, after_in_parent=turn.release, after_in_child=turn.release)


# As for these: a model is first asked for, and then, in `made_once`, made. Each is taken before those above, as forking takes them.
settling, making = threading.Lock(), threading.Lock()
if hasattr(os, "register_at_fork"):
    for lock in (settling, making):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


def made_once(make: Callable[[], Made]) -> Callable[[], Made]:
    """What ``make`` gave the first time, for all threads, however many ask at once. ``cache_clear`` of it forgets that."""
    made = cache(make)

    @wraps(make)
    def get() -> Made:
        with making:
            return made()

    get.cache_clear = made.cache_clear
    return get


class Keep(Protocol):
    """What keeps compiled models: see `stylenorm.kept.Kept`."""

    def has(self, more: Sequence[object]) -> bool: ...

    def read(self, more: Sequence[object]) -> bytearray | None: ...

    def write(self, more: Sequence[object], data: bytes) -> None: ...


class CompiledModel:
    """``build()``, an `openvino.Model`, compiled with ``settings``. Calling it with its inputs gives copies of its outputs.

    keep: where to look for the model of another process, and to leave it for the next. If it is there, a thread takes it from
    there, so that the caller can go on until the first call, and ``build`` is called only if it turns out to be of no
    use. Else it is compiled at once. sources: the files whose code says what is built; about: what else it depends on, beside
    OpenVINO, this processor and the settings.
    """

    def __init__(
        self,
        build: Callable[[], object],
        settings: Mapping[str, object],
        keep: Keep | None = None,
        sources: Sequence[str] = (),
        about: Sequence[object] = (),
    ) -> None:
        self.core = openvino_core()
        self._build, self._settings, self._keep = build, dict(settings), None
        self._taken, self._taking = None, None
        if keep and "EXPORT_IMPORT" in capabilities(self.core):
            code = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in (*sources, __file__)]
            system = [openvino().__version__, processor(), capabilities(self.core), os.environ.get("ONEDNN_MAX_CPU_ISA")]
            self._keep, self._about = keep, [*code, *system, self._settings, *about]
            if keep.has(self._about):
                self._taking = threading.Thread(target=self._take)
                self._taking.start()
        if not self._taking:
            _ = self.model

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        return run(self.model, inputs)

    @property
    def model(self):
        """The `openvino.CompiledModel`, waited for."""
        if self._taking:
            self._taking.join()
        with settling:  # no `cached_property`: up to Python 3.11 that has a lock, which a fork would wait for without end
            self._taken = self._taken or self._made()
            self._build = None  # which may hold what holds this: a ring stays until somebody looks for rings
            return self._taken

    def _made(self):
        with turn:
            model = self.core.compile_model(self._build(), "CPU", self._settings)
        if self._keep:
            with suppress(RuntimeError, MemoryError), turn:
                model.export_model(stream := BytesIO())
                self._keep.write(self._about, stream.getvalue())
        return model

    def _take(self) -> None:
        with suppress(Exception):  # whatever is wrong with it, it can be made anew
            if data := self._keep.read(self._about):
                self._data = np.frombuffer(data, np.uint8)  # which OpenVINO looks into without a copy
                with turn:
                    self._taken = self.core.import_model(openvino().Tensor(self._data, shared_memory=True), "CPU", self._settings)


def run(model, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Copies of the outputs of a compiled model."""
    with turn:
        request = model.create_infer_request()
        found = request.infer(list(inputs))
        outputs = [found[port] for port in model.outputs]
        copies = [output.copy() for output in outputs]
        del request, found, outputs
    return copies


def precision(half: bool) -> dict[str, str]:
    """Settings to compute in bfloat16, or in float32."""
    return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16" if half else "f32"}


def capabilities(core) -> list[str]:
    return core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def has_bfloat16(core) -> bool:
    return "BF16" in capabilities(core)
