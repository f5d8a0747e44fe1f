"""Writes the tables of eval/results/*.json into README.md and the cards, between marks; no number is typed by hand.

    python eval/tables.py

A mark is a line `<!-- results NAME ... -->`; what follows it up to `<!-- end -->` is replaced by one table of the systems in
eval/results/NAME.json, each system once. The cards have 95 % intervals, README.md has means alone.
"""

import json
import re
from pathlib import Path

from tokenizers_zoo.eval.report import table

ROOT = Path(__file__).parent.parent
MARK = re.compile(r"(<!-- results ([\w. -]+) -->\n).*?(<!-- end -->)", re.DOTALL)
INTERVAL = re.compile(r" \([-\d.]+ to [-\d.]+\)")


def filled(text: str) -> str:
    """The same text with every marked table made anew."""

    def one(match: re.Match[str]) -> str:
        files = [json.loads((ROOT / f"eval/results/{name}.json").read_text()) for name in match[2].split()]
        results = list({result["system"]: result for file in files for result in file}.values())
        return f"{match[1]}\n{table(results, results[0]['how']['suite']['modality'])}\n\n{match[3]}"

    return MARK.sub(one, text)


def main() -> None:
    """Fills the tables of README.md and of all cards; says which files changed."""
    for path in (ROOT / "README.md", *ROOT.glob("models/*/README.md"), *ROOT.glob("checkpoints/*/README.md")):
        text = path.read_text()
        new = INTERVAL.sub("", filled(text)) if path.parent == ROOT else filled(text)
        if new != text:
            path.write_text(new)
            print(f"changed {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
