"""The lab: thirteen claims of the theory of normalization, each predicted by a formula and measured on these layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from stylenorm.device import usual_defaults
from stylenorm.drafts import write_whole
from stylenorm.errors import StylenormError
from stylenorm.lab_batch import batch_noise, inference
from stylenorm.lab_descent import descent, drift
from stylenorm.lab_epsilon import epsilon
from stylenorm.lab_gradients import coupling, gradient_noise
from stylenorm.lab_moments import grouping, standardizing, undoing
from stylenorm.lab_names import chosen
from stylenorm.lab_page import page
from stylenorm.lab_plots import drawn
from stylenorm.lab_result import Result
from stylenorm.lab_running import momentum, shift
from stylenorm.lab_style import style

# (quick, seed) -> Result; the names and their order are lab_names'
EXPERIMENTS: dict[str, Callable[[bool, int], Result]] = {
    "standardizing": standardizing,
    "grouping": grouping,
    "epsilon": epsilon,
    "undoing": undoing,
    "drift": drift,
    "gradient-noise": gradient_noise,
    "coupling": coupling,
    "inference": inference,
    "momentum": momentum,
    "shift": shift,
    "descent": descent,
    "batch-noise": batch_noise,
    "style": style,
}


@torch.inference_mode(False)  # half of the claims are of gradients, whatever the caller has switched off
def run_lab(names: Sequence[str] = (), quick: bool = False, seed: int = 0) -> Iterator[Result]:
    """The experiments called ``names``, all of them where none is given, one after the other, on the CPU.

    quick: smaller samples and fewer steps, with tolerances to match. seed: of all random numbers.

    Raises:
        StylenormError: an unknown name; VGG-16's features, which "style" needs, are not there.
    """
    for name in chosen(names):
        with usual_defaults():
            result = EXPERIMENTS[name](quick, seed)
        yield result


def write_lab(results: Sequence[Result], folder: str | Path, about: str = "") -> Path:
    """Write NAME.png for each result and index.html with all of them into ``folder``; returns the page's path.

    Raises:
        StylenormError: one of the files cannot be written; none is half-written then.
    """
    folder = Path(folder)
    plots = {result.name: drawn(result.plot) for result in results}
    files = {f"{name}.png": plot for name, plot in plots.items()} | {"index.html": page(results, plots, about).encode()}
    for name, data in files.items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / name, data)
        except OSError as error:
            raise StylenormError(f"{folder / name} cannot be written ({error.strerror or error}); give another folder") from None
    return folder / "index.html"
