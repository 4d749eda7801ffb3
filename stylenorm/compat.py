"""One place for what other packages get wrong."""

from __future__ import annotations


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
        import sys

        for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torchvision_libraries.append(library)
        import torchvision
    return torchvision


torchvision_libraries: list = []  # a Library that is collected takes its operators with it
