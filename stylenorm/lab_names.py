"""The experiments of the lab by name, each with its claim in a line. No torch, so that --help and --list are quick."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from stylenorm.errors import StylenormError

CLAIMS = {
    "standardizing": "A norm gives each of its groups the mean 0 and the variance σ²/(σ²+ε).",
    "grouping": "The kinds differ only in which elements they group.",
    "epsilon": "ε keeps a constant map from giving NaN, bounds the gradient, and has a smallest safe value.",
    "undoing": "γ = √(σ²+ε) and β = μ give back what a norm took away, to rounding.",
    "drift": "While earlier weights train, LN holds each sample's mean where it was.",
    "gradient-noise": "The more elements a mean and variance are taken over, the less noise in the gradient.",
    "coupling": "IN keeps channels apart; LN ties each to all others.",
    "inference": "With batch statistics a picture's class depends on its neighbours; with running ones it does not.",
    "momentum": "A running mean trades noise against lag, and there is a best momentum.",
    "shift": "A shift of the test data moves BN's output by a known amount, and IN's not at all.",
    "descent": "Before a norm the size of a weight does not count, which makes the descent smoother.",
    "batch-noise": "In training BN adds noise that falls with the batch size; the other kinds add none.",
    "style": "Style lies in the means and deviations of features: swapping them moves the style and keeps the content.",
}
NAMES = tuple(CLAIMS)
NEEDS_VGG = ("style",)


def chosen(names: Sequence[str] | str) -> tuple[str, ...]:
    """``names``, or a single one, in the lab's order and each once; all of them where none is given.

    Raises:
        StylenormError: a name that is no experiment's.
    """
    names = [names] if isinstance(names, str) and names else names
    for name in names:
        if name not in CLAIMS:
            near = difflib.get_close_matches(name, NAMES, 3, 0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(NAMES)}"
            raise StylenormError(f"no experiment is named {name!r}; {hint}")
    return tuple(name for name in NAMES if name in names) if names else NAMES
