"""Where a run leaves its checkpoint, what stops it, and what it takes to go on."""

import os
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from conftest import DATA as PHOTOS
from tiny_recipe import same, tiny_recipe

import tokenizers_zoo as tz
from tokenizers_zoo.cli import main
from tokenizers_zoo.errors import InputError
from tokenizers_zoo.trainers.checkpoints import _remove_unused, last_checkpoint
from tokenizers_zoo.trainers.export import read_checkpoint
from tokenizers_zoo.trainers.resume import differences

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
DATA, EVENTS = "--data.init_args.", "events.out.tfevents."


class Signal(lightning.Callback):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, number: int, step: int, times: int = 1):
        self.number, self.step, self.times = number, step, times

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)
            self.times = 0


def interrupted(number: int, step: int, times: int = 1) -> list[str]:
    given = ("number", number), ("step", step), ("times", times)
    return ["--trainer.callbacks", f"{__name__}.Signal", *(f"--trainer.callbacks.{key}={value}" for key, value in given)]


def fit(folder: Path, *options: str) -> int:
    return main(["fit", "-c", tiny_recipe(folder), *options])


def checkpoints(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder / "out")) for path in folder.rglob("*.ckpt"))


def test_each_run_has_a_folder_below_the_root_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert fit(tmp_path) == fit(tmp_path, "--trainer.max_steps", "3", "--trainer.logger", "false") == 0
    told = capsys.readouterr().out
    assert (
        fit(tmp_path, "--trainer.max_steps", "1", "--trainer.fast_dev_run", "true", "--trainer.enable_progress_bar", "true") == 0
    )
    shown = capsys.readouterr()
    assert "train/total=" in shown.out
    assert "Epoch 0/" not in shown.out
    assert "Tip:" not in shown.err
    assert fit(tmp_path, "--trainer.max_steps", "1", "--trainer.enable_checkpointing", "false") == 0
    assert checkpoints(tmp_path) == [f"lightning_logs/version_{n}/checkpoints/last.ckpt" for n in (0, 1)]
    first, second = (tmp_path / "out" / path for path in checkpoints(tmp_path))
    assert [read_checkpoint(path)["global_step"] for path in (first, second)] == [2, 3]
    assert f"step 2: {first}\nits weights: tokenizers-zoo export {first} -o my-titok-toy\n" in told
    assert last_checkpoint(tmp_path / "out") == second
    assert main(["export", str(tmp_path / "out"), "-o", str(tmp_path / "w"), "--name", "titok-mine"]) == 0
    assert tz.load(tmp_path / "w").name == "titok-mine"
    assert (tmp_path / "w/README.md").read_text().startswith("# titok-mine\n")


def test_a_folder_without_a_checkpoint_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(InputError, match=r"no last\.ckpt lies below"):
        last_checkpoint(tmp_path)
    assert fit(tmp_path, "--ckpt_path", "last") == 1
    assert fit(tmp_path, "--ckpt_path", str(tmp_path / "x.ckpt")) == 1
    assert main(["export", str(tmp_path / "x.ckpt"), "-o", str(tmp_path / "w")]) == 1
    told = capsys.readouterr().err
    assert told.count("error:") == 3
    assert told.count("no such checkpoint") == 2


@pytest.mark.parametrize("options", [[], ["--trainer.logger=false"], ["--ckpt_path", "x.ckpt"]])
def test_a_run_that_is_refused_leaves_no_folder(options: list[str], tmp_path: Path) -> None:
    assert fit(tmp_path, "--model.objective={}", *options) == 1
    assert not list((tmp_path / "out/lightning_logs").iterdir())


@pytest.mark.parametrize(
    ("more", "kept"),
    [("", False), ("hparams.yaml", False), ("checkpoints/last.ckpt", True), (f"{EVENTS}2", True), ("mine.txt", True)],
)
def test_a_folder_with_more_than_a_run_begins_with_is_kept(more: str, kept: bool, tmp_path: Path) -> None:
    folder = tmp_path / "version_0"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", f"{EVENTS}1", *([more] if more else [])):
        (folder / name).write_text("")
    _remove_unused(folder)
    assert folder.exists() == kept


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five steps."""
    folder = tmp_path_factory.mktemp("a whole run")
    assert fit(folder, "--trainer.max_steps=5") == 0
    return folder


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    number: int, code: int, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stop:
        fit(tmp_path, "--trainer.max_steps=5", *interrupted(number, 3))
    assert stop.value.code == code
    assert signal.getsignal(number) is before
    path = last_checkpoint(tmp_path)
    assert f"stopped after step 4; --ckpt_path {path} goes on" in capsys.readouterr().err
    assert fit(tmp_path, "--trainer.max_steps=5", "--ckpt_path", "last") == 0
    assert signal.getsignal(number) is before
    assert last_checkpoint(tmp_path) != path
    ends = [read_checkpoint(last_checkpoint(folder)) for folder in (whole, tmp_path)]
    for part in ("state_dict", "optimizer_states", "random", "global_step"):
        assert same(ends[0][part], ends[1][part]), part
    assert [Path(log).name for log in ends[1]["fit"]["logs"]] == ["version_0", "version_1"]


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert fit(tmp_path, "--trainer.max_steps=9", *interrupted(signal.SIGINT, 3, times=2)) == 130
    assert checkpoints(tmp_path) == []
    assert capsys.readouterr().err.endswith("stopped\n")
    signal.signal(signal.SIGINT, before)  # Lightning leaves it ignored


def test_a_crash_while_saving_leaves_the_file_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = lightning.Trainer.save_checkpoint

    def full(self: lightning.Trainer, path: Path, **options: Any) -> None:
        save(self, path, **options)
        if self.global_step == 4:
            path.write_bytes(path.read_bytes()[:100])
            raise OSError("No space left on device")

    monkeypatch.setattr(lightning.Trainer, "save_checkpoint", full)
    assert fit(tmp_path, "--checkpoints.every=2", "--trainer.max_steps=5") == 1
    assert read_checkpoint(last_checkpoint(tmp_path))["global_step"] == 2


def test_a_run_goes_on_with_its_own_options_alone(whole: Path, capsys: pytest.CaptureFixture) -> None:
    told = {
        "--model.tokenizer.init_args.encoder.init_args.depth": ("2", "1"),
        "--model.tokenizer.init_args.quantizer.class_path": ("BinaryQuantizer", "FSQ"),
        "--model.accumulate": ("2", "1"),
        "--model.optimizer.init_args.lr": ("0.1", "0.001"),
        "--model.ema": ("null", "0.9"),
        f"{DATA}batch_size": ("2", "1"),
        f"{DATA}seed": ("7", "0"),
        "--seed_everything": ("1", "0"),
    }
    options = [f"{key.removesuffix('.class_path')}={new}" for key, (new, _) in told.items()]
    options.append("--model.tokenizer.init_args.quantizer.init_args.dim=3")
    assert main(["fit", "-c", str(whole / "tiny.yaml"), "--ckpt_path", str(whole / "out"), *options]) == 1
    error = capsys.readouterr().err
    lines = error.split("\n  ")[1:]
    assert sorted(line.split("\n")[0] for line in lines) == sorted(f"{key}: {new}, was {old}" for key, (new, old) in told.items())
    saved = shlex.quote(str(last_checkpoint(whole).parent.parent / "config.yaml"))
    assert saved.startswith("'")  # as the folder's name needs
    assert f"-c {saved} has them all" in error


def test_a_checkpoint_that_says_nothing_of_its_run_is_measured_alone(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    content = torch.load(last_checkpoint(whole), weights_only=True)
    torch.save({key: value for key, value in content.items() if key != "fit"}, tmp_path / "old.ckpt")
    options = ["-c", str(whole / "tiny.yaml"), "--ckpt_path", str(tmp_path / "old.ckpt")]
    assert main(["fit", *options]) == 1
    assert "was not written by `fit` of this release" in capsys.readouterr().err
    assert main(["validate", *options]) == 0


def test_another_tokenizer_is_not_measured(whole: Path, capsys: pytest.CaptureFixture) -> None:
    options = ["--ckpt_path", str(whole / "out"), "--model.tokenizer.init_args.encoder.init_args.depth=2", f"{DATA}batch_size=2"]
    assert main(["validate", "-c", str(whole / "tiny.yaml"), *options]) == 1
    error = capsys.readouterr().err
    assert "init_args.depth: 2, was 1" in error
    assert "batch_size" not in error


def test_other_files_are_noticed_and_what_acts_from_here_on_is_said(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ["fit", "-c", str(whole / "tiny.yaml"), "--ckpt_path", str(whole / "out"), "--trainer.max_steps=6"]
    for name in ("astronaut.jpg", "chelsea.jpg"):
        shutil.copy(PHOTOS / name, tmp_path)
    assert main([*options, f"{DATA}data={tmp_path}"]) == 1
    assert "--data.init_args.data: other files" in capsys.readouterr().err
    shutil.copy(PHOTOS / "coffee.jpg", tmp_path)  # the same files elsewhere
    with pytest.warns(UserWarning, match=r"from step 5 on this run differs: --model\.clip: 0\.5, was 1\.0"):
        assert main([*options, f"{DATA}data={tmp_path}", f"{DATA}valid_items=1", "--model.clip=0.5"]) == 0


def test_differences() -> None:
    old = {"model": {"objective": {"a": {"weight": 1.0}, "b": {"weight": 2.0}}, "clip": 1.0, "gone": 1}, "data": {"x": None}}
    new = {"model": {"objective": {"a": {"weight": 1.0}}, "clip": 1.0, "new": 1}, "data": {"x": {"class_path": "a.B"}}}
    assert dict(differences(old, new)) == {
        "model.objective.b": "--model.objective.b: null, was given",
        "data.x": "--data.x: B, was null",
    }
    assert not list(differences({"data": {"init_args": {"workers": 1}}}, {"data": {"init_args": {"workers": 4}}}))
