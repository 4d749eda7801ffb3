"""Style transfer whose only door for style is the γ and β of its normalization layers.

Names are imported when they are first used, so that ``import stylenorm`` costs nothing.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_HOME = {
    "errors": ("StylenormError", "ImageError", "StyleError", "WeightsError"),
    "functional": ("adain", "minimum_epsilon", "modulate", "moments", "normalize"),
    "layers": ("BatchNorm2d", "ConditionalNorm", "GroupNorm", "InstanceNorm2d", "LayerNorm2d"),
    "swapping": ("recalibrate", "swap_norms"),
    "generator": ("Generator", "GeneratorConfig"),
    "style": ("Style", "StyleEncoder", "blend", "interpolate", "regions"),
    "checkpoint": ("load_network", "load_style", "network_hash", "save_network", "save_style"),
    "catalog": ("compared_networks", "photos_folder", "style_entries", "unknown_style", "user_folder", "weights_folder"),
    "images": ("Picture", "fit", "read_picture", "write_picture"),
    "people": ("find_people",),
    "steady": ("PeopleWatch",),
    "engine": ("Stylizer",),
    "video": ("paint_film",),
    "config": ("TrainConfig",),
    "training": ("Trainer", "train"),
    "new_style": ("Cancelled", "NewStyleConfig", "StyleProgress", "check_name", "train_style"),
    "comparing": ("CHANGES", "Comparison", "changed"),
    "optimizing": ("OptimizeConfig", "optimize"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted([*_MODULE_OF, "__version__"])


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'stylenorm' has no attribute {name!r}")
    return getattr(importlib.import_module(f"stylenorm.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
