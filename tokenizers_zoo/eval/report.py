"""Tables and a page to hear and see: made of results.json and rows.jsonl, never typed by hand."""

import json
import math
from pathlib import Path
from typing import Any

from ..files import atomic_path
from . import curves
from .base import need
from .suite import Suite

jinja2 = need("jinja2")

Results = list[dict[str, Any]]
EACH = 2  # items shown of the lowest, of the middle and of the highest values


def columns(results: Results) -> list[str]:
    """Names of all measures, in the suite's order."""
    names = [key for result in results for key, value in result["values"].items() if isinstance(value, dict) and "value" in value]
    return list(dict.fromkeys(names))


def table(results: Results, modality: str) -> str:
    """Markdown: a row a system; rates, the entropy-coded one where there are codes, means with 95 % intervals; their origin."""
    rows = [[cell.replace("|", "&#124;") for cell in row] for row in cells(results, modality)]
    head, *rest = [f"| {' | '.join(row)} |" for row in rows]
    said: dict[str, list[str]] = {}
    for result in results:
        for note in result.get("notes", ()):
            said.setdefault(note, []).append(result["system"])
    notes = [f"\n{'; '.join(systems)}: {note}." for note, systems in said.items()]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest, "", origin(results), *notes])


def cells(results: Results, modality: str) -> list[list[str]]:
    """The table's texts: a head, a row a system, and a last one of the items of each measure where these are known.

    A measure's clips have their lengths there where these are other than all clips' (`origin`).
    """
    names, (scale, unit) = columns(results), curves.RATES[modality]
    rates = {"bits_per_second_or_pixel": unit, "entropy_coded_per_second_or_pixel": "entropy-coded"}
    rates = {key: head for key, head in rates.items() if any(key in result["values"] for result in results)}
    rows = [["system", *rates.values(), *names]]
    for result in results:
        values = result["values"]
        bits = [f"{values[key] / scale:.3g}" if key in values else "-" for key in rates]
        rows.append([result["system"], *bits, *(_cell(values.get(name)) for name in names)])
    known = [[result["values"][name] for result in results if "items" in result["values"].get(name, {})] for name in names]
    seconds = [_seconds(values) for values in known]
    all_of_them = _seconds([result.get("lengths", {}) for result in results])
    others = [f", {some} s" if some not in ("", all_of_them) else "" for some in seconds]
    counts = [_range([value["items"] for value in values]) + other for values, other in zip(known, others, strict=True)]
    return [*rows, ["items", *("" for _ in rates), *counts]] if any(counts) else rows


def _cell(value: dict[str, float] | None) -> str:
    if value is None:
        return "-"
    interval = f" ({value['low']:.3f} to {value['high']:.3f})" if "low" in value else ""
    return f"{round(value['value'], 3) + 0.0:.3f}{interval}"  # no -0.000


def _range(numbers: list[float]) -> str:
    """The least and the greatest, once if they are the same."""
    return " to ".join(dict.fromkeys(f"{round(number, 1):g}" for number in (min(numbers), max(numbers)))) if numbers else ""


def _seconds(measured: Results) -> str:
    """The shortest and the longest clip, where they are known."""
    return _range([some[end] for some in measured if "least" in some for end in ("least", "greatest")])


def origin(results: Results) -> str:
    """Of how many items, how long, the numbers are, and with what they came about."""

    def all_of(key: str) -> str:
        return ", ".join(dict.fromkeys(str(result["how"][key]) for result in results))

    seconds = _seconds([result.get("lengths", {}) for result in results])
    size = f" of {seconds} s" if seconds else ""
    items = _range([result["values"]["items"] for result in results])
    torch = results[0]["how"]["versions"]["torch"]
    return f"{items} items{size}, commit {all_of('commit')}, {all_of('machine')}, torch {torch}, seed {all_of('seed')}."


def write_report(results: Results, folder: Path, suite: Suite) -> str:
    """Writes results.json, table.md and index.html into `folder`; returns the table."""
    text = table(results, suite.modality)
    files = {"results.json": json.dumps(results, indent=1), "table.md": text, "index.html": page(results, folder, suite)}
    for name, content in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(content + "\n")
    return text


def page(results: Results, folder: Path, suite: Suite) -> str:
    """HTML: the table, a plot a measure, the same items of every system in `folder`, what is missing, and how it came about."""
    head, *rows = cells(results, suite.modality)
    plots = {name: curves.plot(results, name, suite.modality) for name in columns(results)}
    environment = jinja2.Environment(
        autoescape=True,  # names and captions are anyone's
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        modality=suite.modality,
        head=head,
        rows=rows,
        origin=origin(results),
        plots={name: curves.svg(figure) for name, figure in plots.items() if figure},
        missing=missing(results),
        how=json.dumps(results[0]["how"], indent=1),
        **examples(results, folder, suite),
    )


def examples(results: Results, folder: Path, suite: Suite) -> dict[str, Any]:
    """Items with the lowest, middle and highest values of the first tokenizer, and the same of every system, originals first.

    The measure is the suite's first that some item has of all systems that have it at all; where none is, the number of bits.
    """
    systems = sorted(results, key=lambda result: result["system"] != "original")
    runs = [_rows(folder / result["folder"]) for result in systems]
    for measure in (*suite.metrics, "bits"):
        values = [[_number(row.get(measure)) for row in rows] for rows in runs]
        having = [some for some in values if set(some) != {None}]
        common = [index for index, item in enumerate(zip(*having, strict=True)) if None not in item]
        if common:
            break
    judge = next((run for run, some in enumerate(values) if systems[run]["weights"] and some in having), 0)
    ranked = sorted(common, key=lambda index: values[judge][index] or 0.0)
    if len(ranked) > 3 * EACH:
        middle = (len(ranked) - EACH) // 2
        ranked = [*ranked[:EACH], *ranked[middle : middle + EACH], *ranked[-EACH:]]
    items = [
        {
            "name": Path(runs[judge][index]["path"]).name,
            "text": _text(runs[judge][index], "text"),
            "sides": [
                {
                    "system": result["system"],
                    "file": _media(folder, result["folder"], index),
                    "value": some[index],
                    "heard": _text(rows[index], "heard"),
                }
                for result, rows, some in zip(systems, runs, values, strict=True)
            ],
        }
        for index in ranked
    ]
    return {"measure": measure, "judge": systems[judge]["system"], "items": items}


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def _number(value: Any) -> float | None:
    """What an item has of a measure: its first finite number."""
    numbers = value.values() if isinstance(value, dict) else [value]
    return next((number for number in numbers if isinstance(number, float) and math.isfinite(number)), None)


def _text(row: dict[str, Any], key: str) -> str:
    """What a recogniser heard, or should have heard."""
    return next((value[key] for value in row.values() if isinstance(value, dict) and key in value), "")


def _media(folder: Path, system: str, index: int) -> str:
    """An item's file, as the page names it; empty if there is none."""
    files = [folder / f"{system}/items/{index:05d}.{suffix}" for suffix in ("wav", "png")]
    return next((file.relative_to(folder).as_posix() for file in files if file.exists()), "")


def missing(results: Results) -> dict[tuple[str, str, str], str]:
    """Of what could not be measured: item, measure and reason; and of which systems."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for result in results:
        items = [*result["failures"], *result.get("left_out", [])]
        lost = [(Path(item["path"]).name, *pair) for item in items for pair in item.items() if pair[0] != "path"]
        lost += [("all items", *pair) for pair in result.get("not_measured", {}).items()]
        lost += [("all items", "rates", note) for note in result.get("notes", [])]
        for reason in lost:
            found.setdefault(reason, []).append(result["system"])
    return {reason: "all" if len(names) == len(results) else "; ".join(names) for reason, names in found.items()}
