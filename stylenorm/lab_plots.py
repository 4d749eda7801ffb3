"""Draws what an experiment has to plot, with matplotlib: predictions as lines, measurements as points."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from stylenorm.lab_result import Heat, Panel, Photo

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444", "#999999")  # Okabe and Ito
MARKERS = "os^Dvp*x"
FORMS = {"line": ("-", False), "points": ("", True), "both": (":", True)}


def drawn(parts: Sequence[Panel | Heat | Photo]) -> bytes:
    """A PNG file of ``parts`` from left to right, at most four in a row."""
    from matplotlib.figure import Figure

    widths = [{Panel: 6.4, Heat: 3.6, Photo: 2.4}[type(part)] for part in parts]
    figure = Figure(figsize=(sum(widths), 4.2), layout="constrained")
    axes = figure.subplots(1, len(parts), width_ratios=widths, squeeze=False)
    heats = [v for part in parts if isinstance(part, Heat) for line in part.values for v in line]
    for axis, part in zip(axes[0], parts):
        axis.set_title(part.title, fontsize=10)
        if isinstance(part, Panel):
            _draw_panel(axis, part)
        elif isinstance(part, Heat):
            axis.set_facecolor("black")
            image = axis.imshow(part.values, cmap="magma", norm=_scale(heats, part.log))
            axis.set(xlabel=part.x_label, ylabel=part.y_label)
        else:
            axis.imshow(part.pixels)
            axis.set_axis_off()
    if heats:
        figure.colorbar(image, ax=axes[0], label=parts[-1].unit, shrink=0.7)
    figure.savefig(buffer := BytesIO(), format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _scale(values: Sequence[float], log: bool):
    from matplotlib.colors import LogNorm, Normalize

    if log:
        # A little below the least, whose own colour would be 0's black.
        return LogNorm(min(v for v in values if v > 0) / 3, max(values), clip=False)
    return Normalize(0, max(values))


def _draw_panel(axis, panel: Panel) -> None:
    for series in panel.series:
        line, marked = FORMS[series.form]
        axis.plot(
            list(series.x), list(series.y), linestyle=line, color=COLORS[series.color % 8], label=series.label, linewidth=1.5,
            marker=MARKERS[series.color % 8] if marked else "", markersize=5, fillstyle="none",
        )  # fmt: skip
    axis.set(xlabel=panel.x_label, ylabel=panel.y_label)
    axis.set(xscale="log" if panel.x_log else "linear", yscale="log" if panel.y_log else "linear")
    if panel.x_ticks:
        axis.set_xticks(panel.x_ticks, [f"{tick:g}" for tick in panel.x_ticks])
        axis.set_xticks([], minor=True)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
