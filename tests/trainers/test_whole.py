"""A test sees every item once and whole, whoever shares the work; a run's checkpoint encodes files as they are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import lightning
import pytest
import torch
from conftest import DATA
from runs import audio_module, fit, image_data, image_module

import tokenizers_zoo as tz
from models import speech_model
from tokenizers_zoo.cli import main
from tokenizers_zoo.media import as_audio, as_images
from tokenizers_zoo.teachers.speech import SpeechTeacher
from tokenizers_zoo.trainers.audio_data import AudioData
from tokenizers_zoo.trainers.cli import HARMLESS
from tokenizers_zoo.trainers.data import Shares
from tokenizers_zoo.trainers.export import from_checkpoint
from tokenizers_zoo.trainers.image_data import ImageData

pytestmark = pytest.mark.filterwarnings(*(f"ignore:{message}" for message in HARMLESS), "ignore:.*LeafSpec")

CLIPS = sorted(DATA.glob("sense*"))


def photos(folder: Path, count: int) -> ImageData:
    for n in range(count):
        tz.Images.load(DATA / "coffee.jpg").resize_crop(64, n / count).save(folder / f"{n}.png")
    return ImageData(str(folder), 64, batch_size=2, workers=0, valid_items=1)


@pytest.mark.parametrize(("length", "size", "world"), [(7, 2, 2), (1, 4, 3), (6, 3, 2), (5, 1, 3)])
def test_every_item_is_one_process_s(length: int, size: int, world: int) -> None:
    shares = [list(Shares(length, size, rank, world)) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1  # none waits for another
    assert sorted(n for share in shares for batch in share for n in batch if n >= 0) == list(range(length))
    assert all(len(batch) <= size for share in shares for batch in share)


def test_a_test_hears_whole_clips(tmp_path: Path) -> None:
    rows = [{"path": str(path), "split": "test", "text": path.stem} for path in CLIPS]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = AudioData(str(tmp_path / "m.jsonl"), 16000, batch_size=4, workers=0, valid_items=1, valid_seconds=0.5)
    batches = list(data.test_dataloader())
    assert [batch["text"] for batch in batches] == [[path.stem] for path in CLIPS]
    for batch, path in zip(batches, CLIPS, strict=True):
        assert torch.equal(batch["media"], as_audio(path, 16000).waveform)


def test_a_test_sees_all_photos(tmp_path: Path) -> None:
    data = photos(tmp_path, 5)
    batches = list(data.test_dataloader())
    assert [len(batch["media"]) for batch in batches] == [2, 2, 1]
    wanted = torch.cat([as_images(tmp_path / f"{n}.png", 64).pixels for n in range(5)])
    assert torch.equal(torch.cat([batch["media"] for batch in batches]), wanted)
    assert len(list(data.val_dataloader())) == 1


def test_means_are_of_all_items(tmp_path: Path) -> None:
    """Batches of 2, 2 and 1 by two processes, one of which has a repetition, against all of them at once."""
    module, data = image_module(adversary=None), photos(tmp_path, 5)
    media = torch.cat([as_images(tmp_path / f"{n}.png", 64).pixels for n in range(5)])
    media = (media * 255).round() / 255
    with torch.no_grad():
        wanted = float((module.eval().averaged(media).output - media).square().mean())
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, use_distributed_sampler=False)
    (found,) = trainer.test(module, data, verbose=False)
    assert found["test/squared"] == pytest.approx(wanted, rel=1e-4)
    data.valid_items = 5
    (found,) = trainer.validate(module, data, verbose=False)
    assert found["valid/squared"] == pytest.approx(wanted, rel=1e-4)
    logged: list[float] = []
    module.log_dict = lambda values, **_: logged.append(float(values["test/squared"].detach()))
    for rank in (0, 1):
        for numbers in Shares(5, 2, rank, 2):
            dataset = data.test_dataloader().dataset
            share = torch.tensor([dataset[n]["share"] for n in numbers])
            module.test_step({"media": media[[max(n, 0) for n in numbers]], "share": share}, 0)
    assert logged[3] == 0
    assert sum(logged) == pytest.approx(wanted, rel=1e-4)


SCRIPT = """
import sys, warnings
warnings.filterwarnings("ignore")
sys.path[:0] = {paths!r}
import lightning, torch
torch.set_num_threads(1)
from runs import image_module
from tokenizers_zoo.trainers.image_data import ImageData
trainer = lightning.Trainer(
    accelerator="cpu", devices=2, strategy="{strategy}", use_distributed_sampler=False, logger=False, enable_progress_bar=False
)
data = ImageData({folder!r}, 64, batch_size=2, workers=0)
found = trainer.test(image_module(adversary=None, ema=None), data, verbose=False)
torch.save(found[0]["test/squared"], f"{folder}/{{trainer.global_rank}}.pt")
"""


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_find_what_one_finds(strategy: str, tmp_path: Path) -> None:
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, use_distributed_sampler=False)
    (alone,) = trainer.test(image_module(adversary=None, ema=None), photos(tmp_path, 5), verbose=False)
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(paths=paths, folder=str(tmp_path), strategy=strategy))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "LOCAL_RANK"))} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert found == pytest.approx([alone["test/squared"]] * 2, rel=1e-5)


def test_each_verb_lets_the_teachers_hear_what_it_needs(tmp_path: Path) -> None:
    rows = [{"path": str(path), "split": split} for path, split in zip(CLIPS, ("train", "valid", "test"), strict=True)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    teacher = SpeechTeacher(speech_model(tmp_path / "model", "hubert"))
    options = {"seconds": 0.5, "batch_size": 2, "workers": 0, "teachers": {"speech": teacher}, "cache": str(tmp_path / "cache")}
    data, module = AudioData(str(tmp_path / "m.jsonl"), 16000, **options), audio_module(adversary=None)
    fit(module, data, 1, tmp_path / "run", limit_val_batches=1, val_check_interval=1)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    seen = []
    module.objective.register_forward_pre_hook(lambda _, given: seen.append(given[1]["speech"]))
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, use_distributed_sampler=False)
    trainer.test(module, data, verbose=False)
    assert len(list((tmp_path / "cache").iterdir())) == 3
    whole = teacher(as_audio(CLIPS[2], 16000).waveform[0, 0])
    assert len(seen) == 1
    torch.testing.assert_close(seen[0][0, : len(whole)], whole, rtol=1e-3, atol=1e-3)


def test_no_validation_needs_no_files_for_it(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"path,split\n{CLIPS[0]},train\n")
    teacher = SpeechTeacher(speech_model(tmp_path / "model", "hubert"))
    options = {"seconds": 0.5, "batch_size": 2, "workers": 0, "teachers": {"speech": teacher}, "cache": str(tmp_path / "cache")}
    data = AudioData(str(tmp_path / "m.csv"), 16000, **options)
    fit(audio_module(adversary=None), data, 1, tmp_path / "run", limit_val_batches=0)
    photos = ImageData(str(tmp_path / "m.csv"), 16, workers=0)
    for asked in (data, photos, AudioData(str(tmp_path / "m.csv"), 16000, workers=0)):
        asked.trainer = None
        with pytest.raises(tz.InputError, match=r"split 'valid'; there are train; .*--trainer\.limit_val_batches 0"):
            asked.val_dataloader()
    AudioData(str(tmp_path / "m.csv"), 16000, workers=0).prepare_data()


@pytest.mark.parametrize("ema", [0.5, None])
def test_a_checkpoint_encodes_files(ema: float | None, tmp_path: Path) -> None:
    """In favour of a verb of training: whole files, under their own names."""
    module = image_module(ema=ema)
    fit(module, image_data(), 2, tmp_path)
    checkpoint = str(tmp_path / "last.ckpt")
    names = [str(DATA / "chelsea.jpg"), str(DATA / "coffee.jpg")]
    assert main(["encode", str(tmp_path), *names, "-o", str(tmp_path / "tokens")]) == 0  # the newest in the folder
    for name in ("chelsea", "coffee"):
        tokens = tz.Tokens.load(tmp_path / f"tokens/{name}.tok")
        assert torch.equal(tokens.codes, module.averaged.eval().encode(DATA / f"{name}.jpg").codes)
    assert main(["decode", str(tmp_path / "tokens"), "-o", str(tmp_path / "out"), "--weights", checkpoint]) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
    assert tokens.spec.weights == from_checkpoint(checkpoint).weights != ""


def test_a_checkpoint_of_weight_normed_parts_is_folded(tmp_path: Path) -> None:
    module = audio_module(adversary=None)
    fit(module, AudioData(str(DATA), 16000, seconds=0.5, batch_size=4, workers=0, valid_items=1), 1, tmp_path)
    loaded = from_checkpoint(tmp_path / "last.ckpt")
    assert torch.equal(loaded.encode(CLIPS[0]).codes, module.averaged.eval().encode(CLIPS[0]).codes)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"nothing")
    assert main(["encode", str(tmp_path / "x.ckpt"), str(DATA / "coffee.jpg"), "-o", str(tmp_path / "t")]) == 1
    assert "is not a checkpoint of `tokenizers-zoo fit`" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["predict"])
