"""The card of a run: curves and hours, from its own logs alone."""

from pathlib import Path

import pytest
from tiny_recipe import tiny_recipe
from torch.utils.tensorboard import SummaryWriter

import tokenizers_zoo as tz
from tokenizers_zoo.cli import main
from tokenizers_zoo.trainers.card import card, panels, read_logs
from tokenizers_zoo.trainers.checkpoints import last_checkpoint
from tokenizers_zoo.trainers.export import logs_of, read_checkpoint

HOUR = 3600.0


def log(folder: Path, scalars: dict[str, list[tuple[int, float, float]]]) -> Path:
    """A TensorBoard file of (step, value, seconds) by name."""
    with SummaryWriter(str(folder)) as writer:
        for name, points in scalars.items():
            for step, value, seconds in points:
                writer.add_scalar(name, value, step, walltime=seconds)
    (file,) = folder.glob("events.*")
    return file


def test_curves_and_hours_of_a_run_that_went_on(tmp_path: Path) -> None:
    first = {"train/total": [(20, 4.0, 1000.0), (30, 3.5, 1600.0), (40, 3.0, 1000 + HOUR)], "epoch": [(20, 0.0, 1000.0)]}
    second = {"train/total": [(40, 2.5, 9 * HOUR), (60, 2.0, 9.5 * HOUR)], "valid/total": [(60, 5.0, 20 * HOUR)]}
    second["speed/steps"] = [(60, 1.0, 9 * HOUR)]
    curves, hours = read_logs([log(tmp_path / "a", first), log(tmp_path / "b", second)])
    assert curves == {"train/total": {20: 4.0, 30: 3.5, 40: 2.5, 60: 2.0}, "valid/total": {60: 5.0}}
    assert hours == pytest.approx(1.5)
    checkpoint = {"global_step": 60, "run": {"seed": 7, "commit": "abc", "machine": "one", "versions": {"torch": "2"}}}
    text = card(tz.create("titok-tiny"), checkpoint, True, hours)
    for line in ("| steps | 60 |", "| hours | 1.50 |", "| weights | moving average |", "| seed | 7 |", "| versions | torch 2 |"):
        assert line in text
    assert "curves.png" in text
    assert "curves.png" not in card(tz.create("titok-tiny"), checkpoint, True, 0.0)


def test_curves_that_belong_together_share_a_panel() -> None:
    names = ["codebook/perplexity_0", "codebook/perplexity_11", "codebook/usage_0", "train/mel_fine", "valid/mel_fine", "lr"]
    assert panels(names) == {"perplexity": names[:2], "usage": names[2:3], "mel_fine": names[3:5], "": ["lr"]}


def test_logs_of_a_run_that_was_moved_are_beside_its_checkpoint(tmp_path: Path) -> None:
    content = {"fit": {"logs": [str(tmp_path / "gone"), str(tmp_path)]}}
    assert logs_of(content, tmp_path / "last.ckpt") == [tmp_path]
    content["fit"]["logs"].pop()
    assert logs_of(content, tmp_path / "version_3/checkpoints/last.ckpt") == [tmp_path / "version_3"]
    assert logs_of({}, tmp_path / "other/last.ckpt") == [tmp_path / "other"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_that_logged_nothing_has_no_curves_of_another(tmp_path: Path) -> None:
    """All three share a root."""
    recipe = ["fit", "-c", tiny_recipe(tmp_path), "--trainer.log_every_n_steps", "1"]
    assert main(recipe) == 0
    assert main([*recipe, "--trainer.logger", "false"]) == 0
    assert main([*recipe, "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(tmp_path / "out")]) == 0
    for path in sorted((tmp_path / "out").rglob("last.ckpt")):
        folder = tmp_path / path.parts[-3]
        assert main(["export", str(path), "-o", str(folder)]) == 0
        logged = any(path.parents[1].glob("events.*"))
        assert (folder / "curves.png").exists() == logged
        assert ("not logged" in (folder / "README.md").read_text()) == (not logged)
    assert len(list(tmp_path.glob("version_*/curves.png"))) == 1
    first = tmp_path / "out/lightning_logs/version_0"
    assert main([*recipe, "--ckpt_path", str(first), "--trainer.max_steps", "3"]) == 0
    told = read_checkpoint(last_checkpoint(tmp_path / "out"))["fit"]["logs"]
    assert told[0] == str(first)  # of the run that was gone on from
    assert len(told) == 2
