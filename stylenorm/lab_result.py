"""What an experiment hands back: predictions beside measurements, and what there is to plot. Plain numbers, no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

RELATIONS = ("=", "≤", "≥")


@dataclass(frozen=True)
class Row:
    """One quantity, predicted and measured.

    relation: what the measured value must be to the predicted one, "=", "≤" or "≥".
    tolerance: how far it may be off, in the quantity's own unit.

    A prediction of NaN or infinity holds where the measured value is the same; a measured NaN fails all others.
    """

    quantity: str
    predicted: float
    measured: float
    relation: str = "="
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if self.relation not in RELATIONS:
            raise ValueError(f"no relation {self.relation!r}; choose one of {', '.join(RELATIONS)}")
        object.__setattr__(self, "predicted", float(self.predicted))
        object.__setattr__(self, "measured", float(self.measured))
        object.__setattr__(self, "tolerance", float(self.tolerance))

    @property
    def holds(self) -> bool:
        if math.isnan(self.predicted):
            return math.isnan(self.measured)
        if self.relation == "=" and math.isinf(self.predicted):
            return self.measured == self.predicted
        excess = self.measured - self.predicted
        return {"=": abs(excess), "≤": excess, "≥": -excess}[self.relation] <= self.tolerance

    @property
    def verdict(self) -> str:
        return "holds" if self.holds else "failed"

    @property
    def expectation(self) -> str:
        """The prediction with its relation and tolerance, as in "0.5 ± 0.01" or "≤ 3"."""
        number = shown(self.predicted)
        if self.relation == "=":
            return f"{number} ± {shown(self.tolerance)}" if self.tolerance else number
        return f"{self.relation} {number}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, which knows no NaN and no infinity: they become words."""
        numbers = {key: getattr(self, key) for key in ("predicted", "measured", "tolerance")}
        words = {key: value if math.isfinite(value) else str(value) for key, value in numbers.items()}
        return {"quantity": self.quantity, **words, "relation": self.relation, "verdict": self.verdict}


@dataclass(frozen=True)
class Series:
    """A curve of a `Panel`: as a "line", which is how a prediction is drawn, as "points", a measurement, or "both"."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    form: str = "points"
    color: int = 0  # series that belong together share one


@dataclass(frozen=True)
class Panel:
    """Curves on one pair of axes."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_log: bool = False
    y_log: bool = False
    x_ticks: Sequence[float] = ()  # else matplotlib's choice


@dataclass(frozen=True)
class Heat:
    """A table of numbers as a map of colours. ``log``: on a logarithmic scale, where 0 is black."""

    title: str
    x_label: str
    y_label: str
    values: Sequence[Sequence[float]]
    unit: str
    log: bool = False


@dataclass(frozen=True)
class Photo:
    """A picture: rows of pixels, each of red, green and blue from 0 to 1."""

    title: str
    pixels: Any


@dataclass(frozen=True)
class Result:
    """An experiment's outcome.

    rows: what was predicted and what was measured.
    plot: the parts of its figure, from left to right.
    note: what a reader must know to judge it, as that a bound is an expectation and not a theorem.
    """

    name: str
    claim: str
    formula: str
    rows: tuple[Row, ...]
    plot: tuple[Panel | Heat | Photo, ...]
    paper: str = ""
    note: str = ""

    @property
    def holds(self) -> bool:
        return bool(self.rows) and all(row.holds for row in self.rows)

    @property
    def verdict(self) -> str:
        return "holds" if self.holds else "failed"

    def to_dict(self) -> dict[str, Any]:
        texts = {key: getattr(self, key) for key in ("name", "claim", "formula", "paper", "note", "verdict")}
        return texts | {"rows": [row.to_dict() for row in self.rows]}


def near(quantity: str, predicted: float, measured: float, relative: float = 0.0, absolute: float = 0.0) -> Row:
    """A row of "=" whose tolerance is ``absolute`` plus the share ``relative`` of the prediction."""
    return Row(quantity, predicted, measured, "=", absolute + (relative * abs(predicted) if relative else 0.0))


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Least-squares slope of log y over log x: the exponent p of y = a x^p. NaN where a y is not positive."""
    if min(y) <= 0:
        return math.nan
    a, b = [math.log(v) for v in x], [math.log(v) for v in y]
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    return sum((p - mean_a) * (q - mean_b) for p, q in zip(a, b)) / sum((p - mean_a) ** 2 for p in a)


def shown(value: float) -> str:
    """Four digits, and powers of ten only where they are needed."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    return f"{value:.4g}" if 1e-3 <= abs(value) < 1e5 else f"{value:.2e}"
