"""Commands that README, cards, recipes and suites show are such that the command line takes."""

import re
import shlex
from pathlib import Path

import pytest

from tokenizers_zoo.cli import main, parser
from tokenizers_zoo.cli.shipped import shipped, with_recipes
from tokenizers_zoo.trainers.cli import cli

ROOT = Path(__file__).parents[2]
TEXTS = [ROOT / "README.md", *(path for place in ("models", "trainers", "eval") for path in sorted((ROOT / place).rglob("*.*")))]


def commands(path: Path) -> list[list[str]]:
    """Words after `tokenizers-zoo` of every line that begins with it, or pipes into it, without remarks."""
    text = re.sub(r"\\\n#? *", "", path.read_text())
    lines = re.findall(r"^(?:#? +)?(?:.*\| )?tokenizers-zoo (.*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


ALL = [words for path in TEXTS if path.suffix in (".md", ".yaml", ".py") for words in commands(path)]
TRAINED = [words for words in ALL if words[0] in parser.TRAINING]


def test_commands_of_files() -> None:
    found = [words for words in ALL if words not in TRAINED]
    assert {"list", "info", "encode", "decode", "roundtrip", "tokenize", "import", "eval", "export"} == {
        words[0] for words in found
    }
    for words in found:
        args = parser.build().parse_args(words)
        if words[0] == "eval":
            assert shipped("eval", args.suite).is_file()


@pytest.mark.parametrize(
    "words", [words for words in commands(ROOT / "README.md") if words in TRAINED], ids=lambda words: words[0]
)
def test_commands_of_training(words: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--print_config"])
    assert "tokenizer:" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:LightningCLI's args", "ignore::DeprecationWarning")
def test_the_ablation_that_readme_shows_can_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (command,) = [words for words in TRAINED if "FSQ" in words]
    made = cli([*with_recipes(command)[1:], "--model.objective.perceptual", "null", "--trainer.logger", "false"], run=False)
    assert made.model.tokenizer.spec.codebook_sizes == (8 * 5 * 5 * 5,)
