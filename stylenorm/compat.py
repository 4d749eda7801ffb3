"""One place for what other packages get wrong."""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def torchvision():
    """Import torchvision, also where a CUDA build of it meets a CPU build of torch.

    There its compiled operators do not load, and its import dies on ``operator torchvision::nms does not
    exist``. Declaring the two schemas that it registers fake kernels for is enough for models, transforms,
    datasets and utils.
    """
    import torch

    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torchvision_libraries.append(library)
        import torchvision
    return torchvision


torchvision_libraries: list = []  # a Library that is collected takes its operators with it


def import_torch() -> None:
    """Import torch. Of a Ctrl-C in the midst of that, it makes a RecursionError, or nothing: here it counts from the end on."""
    with ctrl_c_later():
        import torch  # noqa: F401


def openvino():
    """Import OpenVINO without what it tells its makers.

    Its import asks for a server of Google Analytics and leaves an id in the home folder, where the package
    ``openvino_telemetry`` is installed, which comes with it. Without that package it uses a dummy of its own.
    Its converter of other programs' models, half of the time that the import takes, is imported when it is asked for.
    """
    if "openvino" in sys.modules:
        import openvino  # waits for a thread that is at it

        return openvino
    sys.modules.setdefault("openvino_telemetry", None)  # None: not to be imported
    late = sys.modules.setdefault("openvino.tools.ovc", None) is None
    try:
        with ctrl_c_later():
            import openvino
    finally:
        if late:
            del sys.modules["openvino.tools.ovc"]

    def converter(name: str):
        if name != "convert_model":
            raise AttributeError(f"module 'openvino' has no attribute {name!r}")
        from openvino.tools.ovc import convert_model

        return convert_model

    vars(openvino).setdefault("__getattr__", converter)
    return openvino


@contextmanager
def ctrl_c_later() -> Iterator[None]:
    """A Ctrl-C inside counts from the end on: of one in the midst of its import, OpenVINO makes an ImportError, and torch at times nothing."""
    before, came = signal.getsignal(signal.SIGINT), []
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda *about: came.append(about))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            before(*came[0])


def is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def openvino_core():
    """The one OpenVINO Core of this process.

    Each Core gives the thread that makes it another stack for signal handlers, and takes it away when it goes. Of two
    that go in the order in which they came, the thread is left with one that is no more, and dies at the next signal,
    a Ctrl-C or the end of a subprocess.
    """
    with making_core:
        if not cores:
            core = openvino().Core()
            if is_x86():  # on ARM it keeps none: with any, blurred streaks are painted (https://github.com/openvinotoolkit/openvino/pull/31052)
                with suppress(RuntimeError):  # known inside OpenVINO alone, which may forget it one day
                    core.get_versions("CPU")  # or it would believe any name
                    core.set_property("CPU", {"CPU_RUNTIME_CACHE_CAPACITY": PRIMITIVES})
            cores.append(core)
        return cores[0]


making_core, cores = threading.Lock(), []
PRIMITIVES = "500"  # that OpenVINO keeps of the sizes it has met, 75 kB each; of its own 5,000 a server of all sizes came to 400 MB


def onnxruntime():
    """Import ONNX Runtime without what it tells its makers, and the id that it keeps in the home folder."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime
