"""Recipes and suites by name."""

from pathlib import Path

import pytest

from tokenizers_zoo import zoo
from tokenizers_zoo.cli import main
from tokenizers_zoo.cli.shipped import shipped, with_recipes
from tokenizers_zoo.errors import InputError

TRAINERS, EVAL = zoo.share("trainers"), zoo.share("eval")


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("trainers", "titok-tiny", TRAINERS / "titok-tiny.yaml"),
        ("trainers", "titok-tiny.yaml", TRAINERS / "titok-tiny.yaml"),
        ("trainers", "trainers/titok-tiny.yaml", TRAINERS / "titok-tiny.yaml"),
        ("trainers", "lm-spt-ablations/single-encoder", TRAINERS / "lm-spt-ablations/single-encoder.yaml"),
        ("trainers", "single-encoder", TRAINERS / "lm-spt-ablations/single-encoder.yaml"),
        ("eval", "speech", EVAL / "speech.yaml"),
        ("eval", "dm-codec", EVAL / "presets/dm-codec.yaml"),
        ("eval", "presets/flextok", EVAL / "presets/flextok.yaml"),
    ],
)
def test_names(kind: str, name: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped(kind, name) == path
    (tmp_path / name).mkdir(parents=True)
    assert shipped(kind, name) == path  # a folder is no recipe
    (tmp_path / name).rmdir()
    (tmp_path / name).write_text("")
    assert shipped(kind, name) == Path(name)  # a file wins


def test_an_unknown_name_lists_the_names(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(InputError, match=r"titok-huge is neither a file nor one recipe; choose one of .*, titok-tiny, .*or give"):
        shipped("trainers", "titok-huge")
    assert main(["fit", "-c", "titok-huge"]) == 1
    assert main(["eval", "titok-tiny", "--suite", "sound", "--data", "x", "-o", "y"]) == 1
    assert "lm-spt-ablations/single-encoder" in (told := capsys.readouterr().err)
    assert "sound is neither a file nor one suite; choose one of image-64" in told


def test_every_recipe_of_a_command_is_found() -> None:
    """And stands before the options, which a file after them would take back."""
    words = ["fit", "--seed_everything=1", "-c", "lm-spt-25hz", "--config=single-encoder", "--model.name", "titok-tiny"]
    first, second = TRAINERS / "lm-spt-25hz.yaml", TRAINERS / "lm-spt-ablations/single-encoder.yaml"
    recipes = ["-c", str(first), "-c", str(second)]
    assert with_recipes(words) == ["fit", *recipes, "--seed_everything=1", "--model.name", "titok-tiny"]
    other = ["--model.tokenizer", str(zoo.share("models") / "lm_spt/lm-spt-12.5hz.yaml")]
    assert with_recipes(["fit", "--model.tokenizer=lm-spt-12.5hz", words[4]]) == ["fit", *recipes[2:], *other]
    assert with_recipes(["fit", "--model.tokenizer", "TiTok", "-x"]) == ["fit", "--model.tokenizer", "TiTok", "-x"]
    assert with_recipes(["fit", "--help"]) == ["fit", "--help"]
    assert with_recipes(["fit", "-c"]) == ["fit", "-c"]  # the parser has a word for it


def test_an_option_before_its_recipe_counts(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--trainer.max_steps", "7", "-c", "titok-tiny", "--print_config"])
    assert "max_steps: 7\n" in capsys.readouterr().out
