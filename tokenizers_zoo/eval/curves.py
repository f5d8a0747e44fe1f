"""Rate-distortion curves: a plot a measure, a line a tokenizer or codec, its name beside the plot."""

import base64
import io
import math
import re
import textwrap
from typing import Any, NamedTuple

import numpy as np

from .base import need

matplotlib, figures, ticker = need("matplotlib"), need("matplotlib.figure"), need("matplotlib.ticker")

WIDTH, LEAST, AROUND, LINE = 360, 250, 110, 15  # points: a phone's width; least height; title, axis and ticks; a line of a name
RATES = {"audio": (1000, "kbit/s"), "image": (1, "bit/pixel")}  # what bits a second or pixel are divided by, and the unit
STYLE = {
    "font.size": 11,
    "figure.dpi": 72,  # a pixel is a point
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8e8e8",
    "axes.formatter.useoffset": False,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "svg.fonttype": "none",
    "svg.hashsalt": "report",  # the same results give the same file
}


class Point(NamedTuple):
    """A system's rate, not a number where it has none, and its value with its interval."""

    rate: float
    value: float
    low: float
    high: float


def curves(results: list[dict[str, Any]], measure: str, modality: str) -> dict[str, list[Point]]:
    """By name, in the order of results and of rates: a tokenizer at any number of codebooks, tokens, levels; a codec at any rate.

    A curve without a finite value of the measure is there, and empty.
    """
    found: dict[str, list[Point]] = {}
    for result in results:
        name = result["system"]
        name = re.sub(r", \d+ (codebook|token|level)s?", "", name) if result["weights"] else name.split()[0]
        curve, measured = found.setdefault(name, []), result["values"].get(measure)
        if measured and math.isfinite(value := measured["value"]):
            rate = result["values"].get("bits_per_second_or_pixel", math.nan) / RATES[modality][0]
            curve.append(Point(rate, value, measured.get("low", value), measured.get("high", value)))
    return {name: sorted(curve) for name, curve in found.items()}


def plot(results: list[dict[str, Any]], measure: str, modality: str) -> Any:
    """A matplotlib figure of one measure over the rate, with 95 % intervals; None where fewer than two systems have it.

    What has no rate, and original media, are lines where they do not press the others together.
    """
    found = curves(results, measure, modality)
    flat = {name: found.pop(name) for name in [*found] if name == "original" or any(math.isnan(p.rate) for p in found[name])}
    points = [point for curve in found.values() for point in curve]
    if len(points) < 2:
        return None
    about, values = _title(results, measure), [point.value for point in points]
    with matplotlib.rc_context(STYLE):
        figure = figures.Figure(layout="constrained")
        axes = figure.add_subplot(xlabel=f"{RATES[modality][1]}, lower is better")
        for index, (name, curve) in enumerate(found.items()):
            if curve:
                rates, heights, low, high = zip(*curve, strict=True)
                look = {"color": f"C{index % 10}", "marker": "osD^vPX"[index % 7]}
                axes.plot(rates, heights, markersize=5, label=name, **look)
                axes.vlines(rates, low, high, look["color"], linewidth=1)
        for name, level in [(name, point.value) for name, curve in flat.items() for point in curve]:
            if max(*values, level) - min(*values, level) <= 3 * (max(values) - min(values)):
                axes.axhline(level, color="#666", linestyle="--", linewidth=1, label=name)
            else:
                about += f"\n{'The original' if name == 'original' else name} lies outside, at {level:.4g}."
        figure.suptitle(about, x=0.01, horizontalalignment="left")
        ratio = max(points).rate / min(points).rate if min(points).rate > 0 else 1
        if ratio > 8:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if ratio < 100 else (1,), numticks=6))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(ticker.NullLocator())
        else:
            axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
        _name(axes)
    return figure


def _title(results: list[dict[str, Any]], measure: str) -> str:
    """The measure, its unit and direction, as far as they are known."""
    known = next(result["values"][measure] for result in results if measure in result["values"])
    unit = f" in {known['unit']}" if known.get("unit") else ""
    better = f", {known['better']} is better" if known.get("better") else ""
    return textwrap.fill(f"{measure}{unit}{better}", 48)


def _name(axes: Any) -> None:
    """Writes the lines' names into a column right of the axes, tied to the lines' ends: none meets a point or another name."""
    ends = [(line, line.get_transform(), line.get_xydata()[-1]) for line in axes.get_lines()]
    tie = {"arrowstyle": "-", "linestyle": ":", "linewidth": 0.8, "relpos": (0, 0.5), "shrinkA": 2, "shrinkB": 4}
    labels = [
        axes.annotate(
            textwrap.fill(line.get_label(), 18, max_lines=3, placeholder=" ..."),
            end,
            (1.08, 0.5),
            xycoords=transform,
            textcoords="axes fraction",
            verticalalignment="center",
            annotation_clip=False,
            arrowprops={**tie, "color": line.get_color()},
        )
        for line, transform, end in ends
    ]
    sizes = [LINE * (1 + label.get_text().count("\n")) for label in labels]
    axes.figure.set_size_inches(WIDTH / 72, max(LEAST, sum(sizes) + AROUND) / 72)
    axes.figure.draw_without_rendering()  # now the layout is known
    room = axes.bbox.height
    wanted = [transform.transform(end)[1] - axes.bbox.y0 for _, transform, end in ends]
    for label, centre in zip(labels, apart(wanted, sizes, room), strict=True):
        label.xyann = (1.08, centre / room)


def apart(wanted: list[float], sizes: list[float], room: float) -> list[float]:
    """Centres of labels of these sizes in a column from 0 to `room`: as wanted, moved as little as keeps them apart."""
    order = np.argsort(wanted)
    packed = np.cumsum(np.array(sizes)[order]) - np.array(sizes)[order] / 2  # centres without any gap
    gaps = np.array(wanted)[order] - packed  # must not fall from one label to the next
    rising = (np.maximum.accumulate(gaps) + np.minimum.accumulate(gaps[::-1])[::-1]) / 2
    centres = np.empty(len(order))
    centres[order] = packed + rising.clip(0, room - sum(sizes))
    return [float(centre) for centre in centres]


def svg(figure: Any) -> str:
    """A figure as the address of an image that lies within the page: an image cannot run what its texts may say."""
    with matplotlib.rc_context(STYLE), io.BytesIO() as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
        return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"
