"""Writes the tables of eval/results/*.json into README.md and the cards, between marks; no number is typed by hand.

    python eval/tables.py

A mark is a line `<!-- results NAME -->`; what follows it up to `<!-- end -->` is replaced by the table of eval/results/NAME.json.
"""

import json
import re
from pathlib import Path

from tokenizers_zoo.eval.report import table

ROOT = Path(__file__).parent.parent
MARK = re.compile(r"(<!-- results ([\w.-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """The same text with every marked table made anew."""

    def one(match: re.Match[str]) -> str:
        results = json.loads((ROOT / f"eval/results/{match[2]}.json").read_text())
        how = results[0]["how"]
        line = (
            f"{results[0]['values']['items']} items, commit {how['commit']}, {how['machine']}, torch {how['versions']['torch']}."
        )
        return f"{match[1]}\n{table(results, how['suite']['modality'])}\n\n{line}\n\n{match[3]}"

    return MARK.sub(one, text)


def main() -> None:
    """The program."""
    for path in (ROOT / "README.md", *ROOT.glob("models/*/README.md"), *ROOT.glob("checkpoints/*/README.md")):
        text = path.read_text()
        if filled(text) != text:
            path.write_text(filled(text))
            print(f"changed {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
