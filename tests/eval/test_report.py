"""The table and the page: names that cannot collide, the same items of every system, and nothing that a caption can run."""

import base64
import html.parser
import importlib
import json
import sys
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import matplotlib.text
import numpy as np
import pytest
import yaml
from conftest import DATA
from evaluations import PHOTOS, SPEECH

import tokenizers_zoo as tz
from tokenizers_zoo.cli import main
from tokenizers_zoo.eval import curves, report
from tokenizers_zoo.eval.suite import Suite

HOW = {"commit": "abc123", "machine": "2 cores", "seed": 7, "versions": {"torch": "2.14"}, "suite": {"modality": "audio"}}
EVIL = '"><script>alert(1)</script>&lt;b&gt; $\\frac{$'


def result(name: str, bits: float = 1000.0, value: float = 0.5, measure: str = "stoi", **more: Any) -> dict[str, Any]:
    """Of a system with one measure, as `evaluate` gives it: originals and codecs have no weights."""
    measured = {"value": value, "low": value - 0.01, "high": value + 0.01, "unit": "dB", "better": "higher", "items": 9}
    values = {"items": 9, "bits_per_second_or_pixel": bits, measure: measured}
    weights = "" if name.split()[0] in ("original", "Codec2", "Opus", "JPEG") else "0123456789ab"
    return {"system": name, "weights": weights, "values": values, "failures": [], "how": HOW, "folder": f"f{id(values)}"} | more


class Page(html.parser.HTMLParser):
    """What a browser makes of a page: attributes of each kind of tag, and texts by the tag that they stand in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, list[dict[str, str]]] = {}
        self.texts: dict[str, list[str]] = {}
        self.last = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.setdefault(tag, []).append({name: value or "" for name, value in attrs})
        self.last = tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.setdefault(self.last, []).append(" ".join(data.split()))


def written(folder: Path, results: list[dict[str, Any]], rows: list[list[dict[str, Any]]]) -> Page:
    """The page of results with these items, each with a file of sound."""
    for found, items in zip(results, rows, strict=True):
        (folder / found["folder"] / "items").mkdir(parents=True, exist_ok=True)
        (folder / found["folder"] / "rows.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
        for index in range(len(items)):
            (folder / found["folder"] / f"items/{index:05d}.wav").touch()
    report.write_report(results, folder, Suite("audio", {"wer": "WER", "stoi": "STOI"}))
    return Page((folder / "index.html").read_text())


def rows(values: list[float | None], **more: Any) -> list[dict[str, Any]]:
    """Items of these values, where there is one."""
    return [
        {"path": f"/far/clip{index}.wav", "bits": 800.0} | ({} if value is None else {"stoi": {"stoi": value}}) | more
        for index, value in enumerate(values)
    ]


CROWDS = {
    "two of the same": [("a", 1000.0, 0.5), ("b", 1000.0, 0.5)],
    "many of the same": [(f"system-{i}", 1000.0, 0.5) for i in range(25)],
    "all at the top": [(f"system-{i}", 1000.0 + i, 0.999 - i * 1e-6) for i in range(12)] + [("low", 500.0, 0.0)],
    "all at the bottom": [(f"system-{i}", 1000.0 + i, 1e-6 * i) for i in range(12)] + [("high", 500.0, 0.9)],
    "long names": [(f"a-tokenizer-of-{'very ' * i}long-{'name' * 9 * i}", 10.0**i, 0.1) for i in range(1, 6)],
    "long words": [("W" * 300 + str(i), 90.0 * i, 0.1) for i in range(1, 6)],
    "wide": [("a", 0.001, -123456.0), ("b", 1e6, 123456.0), ("original", 256000.0, 0.0)],
    "decades": [("a", 300.0, 0.1), ("b", 25000.0, 0.3)],
    "far original": [("a", 1000.0, 0.5), ("b", 1000.0, 0.5), ("original", 256000.0, 0.9)],
    "narrow": [("a", 1000.0, 0.5), ("b", 1000.1, 0.5000001)],
}


def check_texts(figure: Any) -> None:
    """No text of a figure meets another one or leaves the figure; names stand beside the axes."""
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = {}
    for text in (*axes.texts, axes.xaxis.label, *figure.texts):
        boxes[text] = matplotlib.text.Text.get_window_extent(text)  # without the line that ties it to its curve
    for side, axis in enumerate((axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        ticks = [label for label in axis.get_ticklabels() if low <= label.get_position()[side] <= high]
        assert len(ticks) >= 2
        boxes |= {label: label.get_window_extent() for label in ticks}
    meetings = [(a.get_text(), b.get_text()) for a, b in combinations(boxes, 2) if boxes[a].overlaps(boxes[b])]
    assert meetings == []
    assert all(boxes[label].x0 > axes.bbox.x1 for label in axes.texts)
    assert axes.bbox.width > 90
    outside = [t.get_text() for t, b in boxes.items() if b.x0 < 0 or b.y0 < 0 or b.x1 > figure.bbox.x1 or b.y1 > figure.bbox.y1]
    assert outside == []


@pytest.mark.parametrize("crowd", CROWDS.values(), ids=CROWDS.keys())
def test_names_in_a_plot_never_meet(crowd: list[tuple[str, float, float]]) -> None:
    figure = curves.plot([result(*system) for system in crowd], "stoi", "audio")
    check_texts(figure)
    assert len(figure.axes[0].texts) == len(figure.axes[0].get_lines()) >= 2


def test_names_in_plots_of_our_results_never_meet() -> None:
    results = json.loads((DATA.parents[1] / "eval/results/speech-ljspeech.json").read_text())
    for measure in report.columns(results):
        check_texts(curves.plot(results, measure, "audio"))


def test_names_move_no_further_than_they_must() -> None:
    assert curves.apart([5.0, 50.0, 95.0], [10.0, 10.0, 10.0], 100.0) == [5.0, 50.0, 95.0]
    assert curves.apart([50.0, 50.0], [10.0, 20.0], 100.0) == [42.5, 57.5]
    assert curves.apart([100.0, 0.0, 100.0], [10.0, 10.0, 10.0], 100.0) == [85.0, 5.0, 95.0]
    random = np.random.default_rng(0)
    for count in range(1, 40):
        sizes, wanted = random.uniform(10, 30, count), random.uniform(0, 300, count)
        room = max(300.0, sizes.sum())
        centres = np.array(curves.apart(list(wanted), list(sizes), room))
        order = np.argsort(wanted)
        low, high = (centres - sizes / 2)[order], (centres + sizes / 2)[order]
        assert (low[1:] - high[:-1] > -1e-9).all()
        assert low[0] > -1e-9
        assert high[-1] < room + 1e-9


def test_a_curve_is_a_tokenizer_or_a_codec() -> None:
    names = {
        "original": ["original"],
        "Codec2": ["Codec2 3200", "Codec2 700C"],
        "Opus": ["Opus 6 kbit/s"],
        "JPEG": ["JPEG at most 2000 bits", "JPEG at most 600 bits"],
        "a": ["a", "a, 1 codebook", "a, 12 codebooks", "a, 8 levels"],
        "a, auxiliary decoder": ["a, 1 codebook, auxiliary decoder"],
        "a (1234)": ["a (1234)", "a, 32 tokens (1234)"],
    }
    results = [result(name, 1000.0 * (9 - i), 0.1 * i) for group in names.values() for i, name in enumerate(group)]
    found = curves.curves(results, "stoi", "audio")
    assert {name: len(curve) for name, curve in found.items()} == {name: len(group) for name, group in names.items()}
    assert found["a"] == [(6, pytest.approx(0.3), pytest.approx(0.29), pytest.approx(0.31)), *found["a"][1:]]
    assert [point.rate for point in found["a"]] == [6, 7, 8, 9]
    assert curves.curves(results, "stoi", "image")["a"][0].rate == 6000
    lines = {line.get_label(): line.get_xydata() for line in curves.plot(results, "stoi", "audio").axes[0].get_lines()}
    assert lines["Codec2"].tolist() == [[8, 0.1], [9, 0]]


@pytest.mark.parametrize(("most", "scale"), [(7900.0, "linear"), (8100.0, "log")])
def test_rates_far_apart_are_on_a_logarithmic_axis(most: float, scale: str) -> None:
    figure = curves.plot([result("a", 1000.0), result("b", most), result("original", 256000.0)], "stoi", "audio")
    assert figure.axes[0].get_xscale() == scale


def test_axes_say_what_they_show() -> None:
    figure = curves.plot([result("a"), result("b", 2000.0)], "stoi", "audio")
    assert figure.axes[0].get_xlabel() == "kbit/s, lower is better"
    assert figure.get_suptitle() == "stoi in dB, higher is better"
    old = {"items": 9, "bits_per_second_or_pixel": 1.0, "fid": {"value": 3.0}}
    figure = curves.plot([result("a", values=old), result("b", values=old)], "fid", "image")
    assert (figure.axes[0].get_xlabel(), figure.get_suptitle()) == ("bit/pixel, lower is better", "fid")


@pytest.mark.parametrize(("value", "drawn"), [(0.8, True), (0.5, True), (1.09, True), (1.11, False), (-1.0, False)])
def test_the_original_is_a_line_where_it_presses_nothing_together(value: float, drawn: bool) -> None:
    results = [result("original", 256000.0, value), result("a", 1000.0, 0.5), result("b", 2000.0, 0.7)]
    figure = curves.plot(results, "stoi", "audio")
    assert ("original" in [line.get_label() for line in figure.axes[0].get_lines()]) == drawn
    assert (f"The original lies outside, at {value:g}." in figure.get_suptitle()) == (not drawn)
    assert figure.axes[0].get_xlim()[1] < 10  # its rate is not on the axis


def test_what_has_no_rate_is_a_line() -> None:
    """A continuous tokenizer, beside its tables at several numbers of levels."""
    results = [result("kl"), result("a, 8 levels", 1000.0, 0.5), result("a, 64 levels", 2000.0, 0.8)]
    results[0]["values"].pop("bits_per_second_or_pixel")
    lines = {line.get_label(): line.get_xydata() for line in curves.plot(results, "stoi", "audio").axes[0].get_lines()}
    assert lines["a"].tolist() == [[1, 0.5], [2, 0.8]]
    assert set(lines["kl"][:, 1]) == {results[0]["values"]["stoi"]["value"]}
    results[0]["values"]["stoi"]["value"] = 9.0
    assert "\nkl lies outside, at 9." in curves.plot(results, "stoi", "audio").get_suptitle()


def test_values_that_cannot_be_drawn_are_left_out() -> None:
    bad = [result(name, value=float(name)) for name in ("nan", "inf")]
    assert curves.plot([*bad, result("a")], "stoi", "audio") is None
    assert len(curves.plot([*bad, result("a"), result("b"), result("c", measure="wer")], "stoi", "audio").axes[0].texts) == 2
    assert curves.plot([result("original"), result("a")], "stoi", "audio") is None


def test_a_system_has_one_colour_in_all_plots() -> None:
    results = [result("a", measure="wer"), result("b"), result("c"), result("b, 1 codebook", measure="wer")]
    colours = [
        {line.get_label(): line.get_color() for line in curves.plot(results, name, "audio").axes[0].get_lines()}
        for name in ("stoi", "wer")
    ]
    assert colours[0]["b"] == colours[1]["b"] != colours[0]["c"]


def test_the_same_items_of_every_system(tmp_path: Path) -> None:
    """Chosen by the tokenizer, from items that all systems have; the original stands first wherever it was measured."""
    results = [result("Codec2 3200"), result("original", 256000.0, 1.0), result("tok")]
    values = [0.9, 0.1, 0.5, 0.4, 0.6, 0.3, 0.2, 0.8, 0.7, 0.0, None]
    codec = [1 - i / 20 for i in range(9)] + [None, 0.5]  # lacks the tokenizer's lowest
    page = written(tmp_path, results, [rows(codec), rows([1.0] * 11), rows(values)])
    chosen = [1, 6, 3, 2, 7, 0]
    assert page.texts["h3"] == [f"clip{index}.wav" for index in chosen]
    sides = [("original", 1, [1.0] * 11), ("Codec2 3200", 0, codec), ("tok", 2, values)]
    assert page.texts["figcaption"] == [name for _ in chosen for name, *_ in sides]
    shown = [text for text in page.texts["small"] if text.startswith("stoi")]
    assert shown == [f"stoi {found[index]:.3f}" for index in chosen for _, _, found in sides]
    files = [f"{results[number]['folder']}/items/{index:05d}.wav" for index in chosen for _, number, _ in sides]
    assert [tag["src"] for tag in page.tags["audio"]] == files
    assert any("from the lowest to the highest stoi of tok" in text for text in page.texts["p"])


def test_items_without_a_common_measure_are_shown_by_their_bits(tmp_path: Path) -> None:
    page = written(tmp_path, [result("a"), result("b")], [rows([0.5, None]), rows([None, 0.5])])
    assert page.texts["h3"] == ["clip0.wav", "clip1.wav"]
    assert page.texts["small"][-4:] == ["bits 800.000"] * 4
    failed = [{"path": "x.wav", "failures": {"all": "broken"}}] * 2
    assert "h3" not in written(tmp_path / "none", [result("a")], [failed]).texts


def test_a_system_that_fails_hides_no_other(tmp_path: Path) -> None:
    broken = result("broken", values={"items": 0})
    failed = [{"path": f"/far/clip{i}.wav", "failures": {"all": "broken"}} for i in range(2)]
    page = written(tmp_path, [broken, result("a"), result("b")], [failed, rows([0.5, 0.4]), rows([0.6, None])])
    assert page.texts["h3"] == ["clip0.wav"]
    assert page.texts["figcaption"] == ["broken", "a", "b"]
    assert page.texts["small"][-2:] == ["stoi 0.500", "stoi 0.600"]
    assert page.texts["th"][3] == "broken"
    assert len(page.tags["img"]) == 1


def test_texts_that_were_said_and_heard(tmp_path: Path) -> None:
    heard = rows([0.5], wer={"text": "a cat", "heard": "a hat", "words": 2})
    page = written(tmp_path, [result("a")], [heard])
    assert page.texts["h3"] == ["clip0.wav: “a cat”"]
    assert page.texts["small"][-1] == "stoi 0.500 heard: “a hat”"


def test_nothing_that_a_name_or_caption_says_is_run(tmp_path: Path) -> None:
    """Nor breaks the page: each text arrives as it was."""
    evil = rows([0.5], path=f"/far/{EVIL}", wer={"text": EVIL, "heard": EVIL})
    failures = [{"path": EVIL, EVIL: EVIL}]
    results = [result(f"{EVIL}{i}", 1000.0, i / 10, EVIL, failures=failures, not_measured={EVIL: EVIL}) for i in range(2)]
    results[0]["how"] = HOW | {"machine": EVIL}
    page = written(tmp_path, results, [evil, evil])
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert set(page.tags["audio"][0]) == {"controls", "preload", "src", "aria-label"}
    name = EVIL.split("/")[-1]
    assert page.texts["h3"] == [f"{name}: “{EVIL}”"]
    assert page.texts["figcaption"] == [f"{EVIL}{i}" for i in range(2)]
    assert page.texts["td"].count(EVIL) == 2 + 2
    (picture,) = page.tags["img"]
    drawn = base64.b64decode(picture["src"].removeprefix("data:image/svg+xml;base64,")).decode()
    assert "<script" not in drawn
    assert "frac" in drawn


def test_the_page_needs_nothing_from_elsewhere_and_can_be_read_aloud(tmp_path: Path) -> None:
    results = [result("a"), result("b", 2000.0)]
    page = written(tmp_path, results, [rows([0.5, 0.6])] * 2)
    again = written(tmp_path, results, [rows([0.5, 0.6])] * 2)
    assert (page.tags, page.texts) == (again.tags, again.texts)
    assert page.tags["html"] == [{"lang": "en"}]
    addresses = [tag[key] for tags in page.tags.values() for tag in tags for key in ("src", "href") if key in tag]
    assert len(addresses) == 5
    assert all(address.startswith("data:") or (tmp_path / address).is_file() for address in addresses)
    assert not {"link", "script", "iframe"} & set(page.tags)
    assert all(tag["alt"] for tag in page.tags["img"])
    assert len({tag["aria-label"] for tag in page.tags["audio"]}) == 4
    style = "".join(page.texts["style"])
    assert "url(" not in style
    assert "@import" not in style


def test_what_was_not_measured_is_listed_with_its_reason(tmp_path: Path) -> None:
    silent = {"path": "silent.wav", "stoi": "is silent"}
    results = [
        result("a", failures=[silent, {"path": "x.wav", "all": "is broken", "wer": "no text"}], not_measured={"pesq": "no gcc"}),
        result("b", failures=[silent], not_measured={"pesq": "no gcc"}, notes=["few codes"]),
    ]
    for found in results:
        found["left_out"] = [{"path": "hush.wav", "original": "the original is silent"}]
    assert report.missing(results) == {
        ("silent.wav", "stoi", "is silent"): "all",
        ("x.wav", "all", "is broken"): "a",
        ("x.wav", "wer", "no text"): "a",
        ("hush.wav", "original", "the original is silent"): "all",
        ("all items", "pesq", "no gcc"): "all",
        ("all items", "rates", "few codes"): "b",
    }
    page = written(tmp_path, results, [rows([0.5])] * 2)
    assert page.texts["td"][-24:-20] == ["silent.wav", "stoi", "is silent", "all"]
    assert page.texts["td"][-4:] == ["all items", "rates", "few codes", "b"]
    assert "Not measured" not in written(tmp_path, [result("a")], [rows([0.5])]).texts["h2"]


def test_one_note_of_several_systems_is_said_once() -> None:
    results = [result("a", notes=["few codes"]), result("b"), result("c", notes=["few codes", "no rate"])]
    assert report.table(results, "audio").split("\n\n")[2:] == ["a; c: few codes.", "c: no rate."]


def test_the_table_counts_items_and_says_where_numbers_are_from() -> None:
    results = [result("a|b", 1500.0, -0.0001), result("c"), result("d", measure="wer")]
    results[0]["values"] |= {"fid": {"value": 7.0}, "entropy_coded_per_second_or_pixel": 900.0}
    results[1]["values"]["stoi"]["items"] = 8
    results[0]["lengths"] = {"least": 1.25, "median": 3.0, "greatest": 9.0}
    results[0]["values"]["stoi"] |= {"least": 1.0, "median": 3.0, "greatest": 9.0}
    results[2]["values"]["wer"] |= {"least": 2.0, "median": 3.0, "greatest": 9.0}
    results[1]["lengths"] = {"least": 1.0, "median": 3.0, "greatest": 8.0}
    results[1]["how"] = HOW | {"commit": "def456"}
    lines = report.table(results, "audio").splitlines()
    assert lines[0] == "| system | kbit/s | entropy-coded | stoi | fid | wer |"
    assert lines[1] == "|---|---|---|---|---|---|"
    assert lines[2] == "| a&#124;b | 1.5 | 0.9 | 0.000 (-0.010 to 0.010) | 7.000 | - |"
    assert lines[4] == "| d | 1 | - | - | - | 0.500 (0.490 to 0.510) |"
    assert lines[5] == "| items |  |  | 8 to 9 |  | 9, 2 to 9 s |"  # its own lengths, where some items lack it
    assert lines[7] == "9 items of 1 to 9 s, commit abc123, def456, 2 cores, torch 2.14, seed 7."
    assert all(a.count("|") == b.count("|") for a, b in pairwise(lines[:6]))


def test_tables_of_results_without_counts_have_no_row_of_them() -> None:
    old = {"items": 1000, "bits_per_second_or_pixel": 0.25, "psnr": {"value": 20.0, "low": 19.0, "high": 21.0}}
    lines = report.table([result("a", values=old)], "image").splitlines()
    assert lines[0] == "| system | bit/pixel | psnr |"
    assert lines[2] == "| a | 0.25 | 20.000 (19.000 to 21.000) |"
    assert lines[3:] == ["", "1000 items, commit abc123, 2 cores, torch 2.14, seed 7."]


def test_the_verb_evaluates_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(SPEECH))
    command = [
        "eval",
        "dm-codec-tiny",
        "--suite",
        str(tmp_path / "suite.yaml"),
        "--data",
        str(DATA / "speech.csv"),
        "--limit",
        "2",
    ]
    assert main([*command, "-o", str(tmp_path / "out")]) == 0
    table = capsys.readouterr().out
    assert table.startswith("| system | kbit/s | mel_distance | stoi |")
    assert "| original | 256 | 0.000" in table
    assert "| dm-codec-tiny, 1 codebook | 0.5" in table
    results = {r["system"]: r["values"] for r in json.loads((tmp_path / "out/results.json").read_text())}
    assert (results["original"]["mel_distance"]["better"], results["original"]["stoi"]["better"]) == ("lower", "higher")
    assert results["original"]["stoi"]["value"] == pytest.approx(1.0)
    assert results["dm-codec-tiny"]["stoi"]["value"] > results["dm-codec-tiny, 1 codebook"]["stoi"]["value"] > 0.5
    assert len(results["dm-codec-tiny"]["codebooks"]["perplexity"]) == 8
    assert "dm-codec-tiny: no entropy-coded rate: fewer than 10 codes an entry" in table
    page = Page((tmp_path / "out/index.html").read_text())
    assert len(page.tags["audio"]) == 2 * 3
    folders = [tag["src"].split("/")[0] for tag in page.tags["audio"]]
    assert folders == 2 * [
        "original",
        "dm-codec-tiny",
        "dm-codec-tiny__1_codebook",
    ]
    assert len(page.tags["img"]) == 2
    assert "".join(page.texts["p"]).startswith("2 items")
    assert (tmp_path / "out/dm-codec-tiny/items/00000.wav").exists()
    before = (tmp_path / "out/results.json").read_bytes()
    assert main([*command, "-o", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again/results.json").read_bytes() == before


def test_a_report_without_originals_shows_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(PHOTOS | {"baselines": []}))
    command = ["eval", "titok-tiny", "--suite", str(tmp_path / "suite.yaml"), "--data", str(DATA), "-o", str(tmp_path / "out")]
    assert main(command) == 0
    page = Page((tmp_path / "out/index.html").read_text())
    assert [tag["alt"] for tag in page.tags["img"]] == [f"{text}, titok-tiny" for text in page.texts["h3"]]
    assert len(page.tags["img"]) == 3
    assert "original" not in page.texts["figcaption"]


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_package_of_the_report_that_is_missing(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is said before anything is measured, with the way to get it."""
    monkeypatch.setitem(sys.modules, package, None)
    for module in ("report", "curves"):
        monkeypatch.delitem(sys.modules, f"tokenizers_zoo.eval.{module}")
        monkeypatch.delattr(f"tokenizers_zoo.eval.{module}")
    with pytest.raises(tz.InputError, match=rf"needs the package {package}: pip install 'tokenizers-zoo\[eval\]'"):
        importlib.import_module("tokenizers_zoo.eval.report")
