"""Tables and a page to hear and see: made of results.json and rows.jsonl, never typed by hand."""

import html
import json
from pathlib import Path
from typing import Any

from ..files import atomic_path
from .suite import Suite

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; color: #222; background: #fff }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th:first-child, td:first-child { position: sticky; left: 0; min-width: 7rem; padding-left: 0; background: #fff }
th:first-child, td:first-child { text-align: left; white-space: normal }
small { color: #666; overflow-wrap: anywhere }
figure { display: inline-block; margin: .3rem 0; max-width: 25rem; vertical-align: top }
figure img { width: 12rem; max-width: 50%; image-rendering: pixelated }
audio { width: 18rem; max-width: 100%; display: block }
svg { display: block; width: 100%; max-width: 34rem }
pre { overflow-x: auto; background: #f6f6f6; padding: .7rem }
"""
LEFT, RIGHT, TOP, BOTTOM = 60, 345, 25, 180  # of a plot's values, in units that are pixels on a phone


def columns(results: list[dict[str, Any]]) -> list[str]:
    """Names of all measures, in the suite's order."""
    names: list[str] = []
    for result in results:
        names += [k for k, v in result["values"].items() if isinstance(v, dict) and "value" in v and k not in names]
    return names


def table(results: list[dict[str, Any]], modality: str) -> str:
    """Markdown: a row a system; rates, the entropy-coded one where there are codes, and means with 95 % intervals."""
    names = columns(results)
    scale, unit = (1000, "kbit/s") if modality == "audio" else (1, "bit/pixel")
    rates = {"bits_per_second_or_pixel": unit, "entropy_coded_per_second_or_pixel": "entropy-coded"}
    rates = {key: head for key, head in rates.items() if any(key in result["values"] for result in results)}
    lines = [f"| system | {' | '.join([*rates.values(), *names])} |", "|---|" + "---|" * (len(rates) + len(names))]
    for result in results:
        values = result["values"]
        cells = [f"{values[key] / scale:.3g}" if key in values else "-" for key in rates]
        cells += [_cell(values.get(name)) for name in names]
        lines.append(f"| {result['system']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: dict[str, float] | None) -> str:
    if value is None:
        return "-"
    interval = f" ({value['low']:.3f} to {value['high']:.3f})" if "low" in value else ""
    return f"{round(value['value'], 3) + 0.0:.3f}{interval}"  # no -0.000


def write_report(results: list[dict[str, Any]], folder: Path, suite: Suite) -> str:
    """Writes results.json, table.md and index.html into `folder`; returns the table."""
    text = table(results, suite.modality)
    files = {"results.json": json.dumps(results, indent=1), "table.md": text, "index.html": page(results, folder, suite)}
    for name, content in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(content + "\n")
    return text


def page(results: list[dict[str, Any]], folder: Path, suite: Suite) -> str:
    """HTML: the table, a plot a measure, items of each system with their media in `folder`, and how it came about."""
    text = table(results, suite.modality)
    parts = [f"<h1>Evaluation</h1><div class=wide>{_html_table(text)}</div>"]
    parts += [_plot(results, name, suite.modality) for name in columns(results)]
    parts += [_items(result, folder, suite) for result in results]
    how = html.escape(json.dumps(results[0]["how"], indent=1))
    parts.append(f"<h2>How these numbers came about</h2><pre>{how}</pre>")
    head = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
    return f"{head}<title>Evaluation</title><style>{STYLE}</style><body>{''.join(parts)}</body></html>"


def _html_table(text: str) -> str:
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]

    def line(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def _plot(results: list[dict[str, Any]], name: str, modality: str) -> str:
    """Rate against one measure, a dot a system, as SVG; the uncompressed originals are a line."""
    scale, unit = (1000, "kbit/s") if modality == "audio" else (1, "bit/pixel")
    values = {
        r["system"]: (r["values"]["bits_per_second_or_pixel"] / scale, r["values"][name]["value"])
        for r in results
        if name in r["values"]
    }
    original = values.pop("original", None)
    if len(values) < 2:
        return ""
    spread = [v for _, v in values.values()]
    if original and not 0 < max(*spread, original[1]) - min(*spread, original[1]) < 3 * (max(spread) - min(spread)):
        original = None  # it would press all others together
    rates, heights = [rate for rate, _ in values.values()], [v for _, v in [*values.values(), *([original] if original else [])]]

    def at(value: float, axis: list[float], start: int, end: int) -> int:
        return round(start + (end - start) * (value - min(axis)) / ((max(axis) - min(axis)) or 1))

    def text(x: int, y: int, words: str, anchor: str = "start") -> str:
        return f"<text x={x} y={y} text-anchor={anchor}>{html.escape(words)}</text>"

    marks = [f"<path d='M{LEFT - 8} {TOP}V{BOTTOM + 8}H{RIGHT}' fill=none stroke='#bbb'/>", text(200, 218, unit, "middle")]
    marks += [text(at(rate, rates, LEFT, RIGHT), 205, f"{rate:.3g}", "middle") for rate in (min(rates), max(rates))]
    marks += [text(LEFT - 12, at(v, heights, BOTTOM, TOP) + 4, f"{v:.3g}", "end") for v in (min(heights), max(heights))]
    if original:
        level = at(original[1], heights, BOTTOM, TOP)
        marks += [
            f"<path d='M{LEFT} {level}H{RIGHT}' stroke=gray stroke-dasharray=4 />",
            text(200, level - 4, "original", "middle"),
        ]
    for system, (rate, value) in values.items():
        x, y = at(rate, rates, LEFT, RIGHT), at(value, heights, BOTTOM, TOP)
        inward = (x - 7, "end") if x > 200 else (x + 7, "start")
        marks += [f"<circle cx={x} cy={y} r=4 fill='#06c'/>", text(inward[0], y + 4, system, inward[1])]
    return f"<h3>{html.escape(name)}</h3><svg viewBox='0 0 370 225' font-size=12>{''.join(marks)}</svg>"


def _items(result: dict[str, Any], folder: Path, suite: Suite) -> str:
    """The two lowest, middle and highest items by the first measure that items have, and what could not be measured."""
    rows = [json.loads(line) for line in (folder / result["folder"] / "rows.jsonl").read_text().splitlines()]
    measure = next((k for row in rows for k, v in row.items() if k in suite.metrics and _number(v) is not None), None)
    ranked = sorted((_number(row[measure]) or 0.0, index) for index, row in enumerate(rows) if measure and measure in row)
    middle = len(ranked) // 2
    chosen = {"lowest": ranked[:2], "median": ranked[middle : middle + 2], "highest": ranked[-2:]}
    parts = [f"<h2>{html.escape(result['system'])}</h2>"]
    if result["folder"] != "original" and (folder / "original").is_dir():
        parts.append("<p>The original, then what was decoded.</p>")
    for label, items in (chosen if len(ranked) > 5 else {"": ranked}).items():
        for value, index in items:
            words = html.escape(f"{Path(rows[index]['path']).name} {_heard(rows[index])}")
            caption = f"<figcaption>{label} {measure} {value:.3f}<br><small>{words}</small></figcaption>"
            parts.append(f"<figure>{_media(folder, result['folder'], index, suite)}{caption}</figure>")
    if result["failures"]:
        reasons = [(Path(f["path"]).name, "; ".join(v for k, v in f.items() if k != "path")) for f in result["failures"]]
        listed = "".join(f"<li>{html.escape(f'{name}: {reason}')}</li>" for name, reason in reasons)
        parts.append(f"<details><summary>not measured: {len(reasons)}</summary><ul>{listed}</ul></details>")
    return "".join(parts)


def _number(value: Any) -> float | None:
    numbers = [v for v in value.values() if isinstance(v, float)] if isinstance(value, dict) else []
    return numbers[0] if numbers else None


def _heard(row: dict[str, Any]) -> str:
    texts = [v["heard"] for v in row.values() if isinstance(v, dict) and "heard" in v]
    return f"heard: {texts[0]}" if texts else ""


def _media(folder: Path, system: str, index: int, suite: Suite) -> str:
    """The original and the decoded item, where the originals were part of the run."""
    suffix = "wav" if suite.modality == "audio" else "png"
    tag = "<audio controls preload=none src='{}'></audio>" if suffix == "wav" else "<img loading=lazy src='{}'>"
    files = [f"{side}/items/{index:05d}.{suffix}" for side in dict.fromkeys(("original", system))]
    return "".join(tag.format(html.escape(file)) for file in files if (folder / file).exists())
