"""Random draws, and what happens to files that cannot be read."""

import json
import pickle
import shutil
import warnings
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import DATA
from PIL import Image
from runs import audio_data, image_data
from torch.utils.data import DataLoader

import tokenizers_zoo as tz
from tokenizers_zoo.manifest import read_manifest
from tokenizers_zoo.media import as_audio, as_images
from tokenizers_zoo.trainers import data as loaders
from tokenizers_zoo.trainers.audio_data import AudioData
from tokenizers_zoo.trainers.data import ResumableSampler
from tokenizers_zoo.trainers.image_data import ImageData

CLIP = DATA / "sense_and_sensibility_0870.wav"


def Trainer(device: str = "cpu") -> SimpleNamespace:  # noqa: N802
    return SimpleNamespace(world_size=1, global_rank=0, strategy=SimpleNamespace(root_device=torch.device(device)))


def test_draws_depend_on_seed_and_number_alone() -> None:
    first, again, other = (audio_data(seed=seed).draws()[0] for seed in (0, 0, 1))
    order = [first[n]["media"] for n in (5, 3, 5)]
    assert torch.equal(order[0], order[2])
    assert torch.equal(again[5]["media"], order[0])
    assert not torch.equal(other[5]["media"], order[0])
    assert order[0].shape == (1, 8000)
    assert not any(torch.equal(other[n]["media"], first[m]["media"]) for n in range(3) for m in range(6))  # not shifted either


def test_workers_draw_the_same_as_one_process() -> None:
    alone, helped = image_data(), image_data()
    helped.workers = 1
    for a, b in zip(alone.train_dataloader(), helped.train_dataloader(), strict=True):
        assert torch.equal(a["media"], b["media"])


def test_processes_share_the_draws_and_epochs_differ() -> None:
    parts = [ResumableSampler(10, rank, 3) for rank in range(3)]
    assert [list(part) for part in parts] == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]  # equal shares: none waits for another
    parts[0].set_epoch(1)
    parts[0].skip = 1
    assert list(parts[0]) == [13, 16]
    assert list(parts[0]) == [10, 13, 16]


def test_every_photo_comes_once_an_epoch() -> None:
    dataset, length = image_data().draws()
    dataset.read = lambda row, generator: {"name": row.path.name}
    assert length == 3
    epochs = [[dataset[3 * epoch + n]["name"] for n in range(3)] for epoch in range(6)]
    assert all(sorted(names) == ["astronaut.jpg", "chelsea.jpg", "coffee.jpg"] for names in epochs)
    assert len({tuple(names) for names in epochs}) > 1  # in another order


def test_batches_carry_text_and_one_caption_is_drawn(tmp_path: Path) -> None:
    image = {"path": str(DATA / "chelsea.jpg"), "captions": ["a cat", "a face", "whiskers"]}
    (tmp_path / "m.jsonl").write_text(json.dumps(image))
    photos = ImageData(str(tmp_path / "m.jsonl"), 64, workers=0)
    drawn = [photos.draws()[0][n]["text"] for n in range(12)]
    assert set(drawn) == set(image["captions"])
    assert drawn == [photos.draws()[0][n]["text"] for n in range(12)]
    assert next(iter(photos.val_dataloader()))["text"] == ["a cat"]
    clip = {"path": str(CLIP), "texts": ["one", "two"], "seconds": 7}
    (tmp_path / "m.jsonl").write_text(json.dumps(clip))
    speech = AudioData(str(tmp_path / "m.jsonl"), 16000, workers=0)
    assert {speech.draws()[0][n]["text"] for n in range(12)} == {"one", "two"}
    assert next(iter(speech.val_dataloader()))["text"] == ["one"]


def test_loudness_and_gain() -> None:
    crop = audio_data(loudness=-30.0).draws()[0][0]["media"]
    assert 10 * float(crop.square().mean().log10()) == pytest.approx(-30, abs=0.01)
    loud = audio_data(loudness=20.0).draws()[0][0]["media"]
    assert float(loud.abs().max()) == pytest.approx(1.0)
    levels = {
        round(float(audio_data(gain=6.0, loudness=-30.0).draws()[0][n]["media"].square().mean().log10()), 2) for n in range(4)
    }
    assert len(levels) == 4


def test_short_clips_end_in_silence_and_other_rates_are_resampled(tmp_path: Path) -> None:
    tz.Audio(torch.rand(1, 2, 2205) - 0.5, 22050).save(tmp_path / "short.wav")
    sample = AudioData(str(tmp_path), 16000, seconds=0.5, workers=0).draws()[0][0]["media"]
    assert sample.shape == (1, 8000)
    assert float(sample[:, :1500].abs().max()) > 0.1
    assert float(sample[:, 1610:].abs().max()) == 0.0


def test_unreadable_files_are_counted_and_limited(tmp_path: Path) -> None:
    shutil.copy(CLIP, tmp_path / "good.wav")
    (tmp_path / "manifest.csv").write_text("path,seconds\ngood.wav,7\nmissing.wav,7\nnoise.wav,7\n")
    (tmp_path / "noise.wav").write_bytes(b"no audio at all")
    data = AudioData(str(tmp_path / "manifest.csv"), 16000, workers=0, max_unreadable=3).draws()[0]
    with pytest.warns(UserWarning, match="skipped"):
        samples = [data[n] for n in range(2)]
    assert all(float(sample["media"].abs().max()) > 0 for sample in samples)
    with warnings.catch_warnings(action="ignore"), pytest.raises(tz.InputError, match="the limit is 3"):
        [data[n] for n in range(50)]


def test_a_broken_photo_is_skipped(tmp_path: Path) -> None:
    shutil.copy(DATA / "chelsea.jpg", tmp_path / "good.jpg")
    (tmp_path / "empty.jpg").touch()
    data = ImageData(str(tmp_path), 64, workers=0).draws()[0]
    with pytest.warns(UserWarning, match="empty.jpg"):
        assert all(data[n]["media"].shape == (3, 64, 64) for n in range(4))


def test_one_bad_file_costs_one_however_often_it_is_drawn(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(DATA / "chelsea.jpg", tmp_path / name)
    (tmp_path / "empty.jpg").touch()
    data = ImageData(str(tmp_path), 16, workers=0, max_unreadable=2).draws()[0]
    with pytest.warns(UserWarning, match=r"skipped \(1 of at most 2\)"):
        assert all(data[n]["media"].shape == (3, 16, 16) for n in range(30))
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"")
    with warnings.catch_warnings(action="ignore"), pytest.raises(tz.InputError, match=r"3 .* could not be read, the limit is 2"):
        [data[n] for n in range(3)]


@pytest.mark.parametrize(
    ("method", "kind"), [("spawn", AudioData), pytest.param("forkserver", ImageData, marks=pytest.mark.slow)]
)
def test_workers_need_no_fork(method: str, kind: type, tmp_path: Path) -> None:
    """Python 3.14 starts processes by a fork server; failures of all of them are one count."""
    good = CLIP if kind is AudioData else DATA / "chelsea.jpg"
    (tmp_path / "bad").touch()
    (tmp_path / "m.csv").write_text(f"path,seconds\n{good},7\nbad,7\n")
    draws, _ = kind(str(tmp_path / "m.csv"), 16000 if kind is AudioData else 64).draws()
    for other in (image_data(), audio_data(), draws):
        alone = pickle.loads(pickle.dumps(other if other is draws else other.draws()[0]))
    loader = DataLoader(draws, None, sampler=range(6), num_workers=1, multiprocessing_context=method)
    with warnings.catch_warnings(action="ignore"):
        for n, sample in enumerate(loader):
            assert torch.equal(sample["media"], alone[n]["media"])
    assert int(draws.failed.sum()) == 1


def test_photos_are_bytes_until_they_are_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, data = image_data(), image_data()
    data.trainer = Trainer()
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        before, batch = next(iter(getattr(plain, name)())), next(iter(getattr(data, name)()))
        assert batch["media"].dtype == torch.uint8
        moved = data.on_after_batch_transfer(batch, 0)
        assert torch.equal(moved["media"], (before["media"] * 255).round() / 255)
        assert moved["text"] == before["text"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_memory_is_pinned_for_a_gpu_alone(device: str) -> None:
    for data in (image_data(), audio_data()):
        data.trainer = Trainer(device)
        assert data.train_dataloader().pin_memory == data.val_dataloader().pin_memory == (device == "cuda")


def test_half_of_the_photos_are_mirrored_and_all_places_are_cropped(tmp_path: Path) -> None:
    ramp = torch.arange(96).expand(1, 3, 32, 96) / 255  # each pixel says where it stands
    tz.Images(ramp).save(tmp_path / "a.png")
    draws, _ = ImageData(str(tmp_path), 32, workers=0).draws()
    rows = [(draws[n]["media"][0, 5] * 255).round().int().tolist() for n in range(400)]
    mirrored = [row[0] > row[-1] for row in rows]
    assert all(sorted(row) == list(range(min(row), min(row) + 32)) for row in rows)
    assert sum(mirrored) == pytest.approx(200, abs=35)
    places = Counter(min(row) // 13 for row in rows)  # 0 to 64
    assert min(places[part] for part in range(5)) > 50
    assert {min(row) < 32 for row, turned in zip(rows, mirrored, strict=True) if turned} == {True, False}


def test_orders_depend_on_the_seed() -> None:
    def order(seed: int) -> list[str]:
        draws, _ = image_data(seed=seed).draws()
        return [draws.choose(torch.Generator(), n).path.name for n in range(30)]

    assert order(0) == order(0) != order(1)


def test_a_resumed_loader_leaves_out_what_was_done() -> None:
    whole = [batch["media"] for batch in audio_data().train_dataloader()]
    assert len(whole) == 2
    loader = audio_data().train_dataloader()
    next(iter(loader))
    state = loader.state_dict()
    assert state == {"batches_done": 1}
    again = audio_data().train_dataloader()
    again.load_state_dict(state)
    assert again.state_dict() == state  # also for a run that is stopped before its first batch, or broken twice in an epoch
    (rest,) = [batch["media"] for batch in again]
    assert torch.equal(rest, whole[1])
    assert len(list(again)) == 2  # the next epoch is whole
    assert again.state_dict() == {"batches_done": 0}


def test_loaders_give_the_draws_in_their_order_and_move_no_random_numbers() -> None:
    for data in (audio_data(), image_data()):
        draws, state = data.draws()[0], torch.get_rng_state()
        batch = next(iter(data.train_dataloader()))
        for n, media in enumerate(batch["media"]):
            assert torch.equal(media, draws[n]["media"])
        next(iter(data.val_dataloader())), next(iter(data.test_dataloader()))
        assert torch.equal(torch.get_rng_state(), state)
        second = next(iter(data.train_dataloader()))["media"]
        assert torch.equal(second, batch["media"])
        loader = data.train_dataloader()
        loader.sampler.set_epoch(1)
        assert torch.equal(next(iter(loader))["media"][0], draws[loader.sampler.length]["media"])


def test_a_process_gets_draws_of_its_own() -> None:
    data, draws = audio_data(), audio_data().draws()[0]
    data.batch_size = 4
    data.trainer = Trainer()
    data.trainer.world_size, data.trainer.global_rank = 2, 1
    batch = next(iter(data.train_dataloader()))["media"]
    assert torch.equal(batch, torch.stack([draws[n]["media"] for n in (1, 3, 5, 7)]))


def test_fewer_files_than_a_batch_still_make_one() -> None:
    data = image_data()
    data.batch_size = 5
    (batch,) = list(data.train_dataloader())
    assert len(batch["media"]) == 5
    data.batch_size, data.trainer = 2, Trainer()
    for data.trainer.global_rank in (0, 1):  # and one for each process
        data.trainer.world_size = 2
        assert len(list(data.train_dataloader())) == 1


def test_validation_is_spread_over_the_split_and_starts_at_the_start(tmp_path: Path) -> None:
    lines = [f"{n}.wav,{'valid' if n < 10 else 'train'}" for n in range(12)]
    (tmp_path / "m.csv").write_text("\n".join(["path,split", *lines]))
    for n in range(12):
        shutil.copy(CLIP, tmp_path / f"{n}.wav")
    data = AudioData(str(tmp_path / "m.csv"), 16000, workers=0, valid_items=4, valid_seconds=1.5)
    assert [row.path.stem for row in data.fixed_rows("valid")] == ["0", "3", "6", "9"]
    assert [row.path.stem for row in data.rows("train")] == ["10", "11"]
    media = next(iter(data.val_dataloader()))["media"]
    assert torch.equal(media[0], as_audio(CLIP, 16000).waveform[0, :, :24000])


@pytest.mark.parametrize(("there", "asked", "found"), [("test", "valid", "test"), ("valid", "test", "valid")])
def test_photos_for_validation_and_test_stand_in_for_each_other(there: str, asked: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"path,split\na.jpg,train\nb.jpg,{there}\n")
    data = ImageData(str(tmp_path / "m.csv"), 16, workers=0)
    assert [row.split for row in data.rows(asked)] == [found]
    speech = AudioData(str(tmp_path / "m.csv"), 16000, workers=0)
    if asked == "valid":
        assert [row.split for row in speech.rows(asked)] == [found]
    else:
        with pytest.raises(tz.InputError, match="no file belongs to the split 'test'"):
            speech.rows(asked)


def test_gain_is_even_over_its_range() -> None:
    plain, louder = audio_data().draws()[0], audio_data(gain=6.0).draws()[0]
    db = []
    for n in range(80):
        before, after = plain[n]["media"], louder[n]["media"]
        db.append(10 * float(after.square().mean().log10() - before.square().mean().log10()))
        assert float(after.abs().max()) <= 1
    assert -6.001 < min(db) < -5
    assert 5 < max(db) < 6.001
    assert abs(sum(db) / len(db)) < 1.2


def test_a_manifest_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    monkeypatch.setattr(loaders, "read_manifest", lambda *args: reads.append(args) or read_manifest(*args))
    for data in (audio_data(), image_data()):
        data.prepare_data()
        data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
    assert len(reads) == 2


def test_validation_is_the_same_every_time() -> None:
    first, second = (next(iter(audio_data().val_dataloader()))["media"] for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (2, 1, 16000)


def test_photos_are_read_as_for_encoding(tmp_path: Path) -> None:
    with Image.open(DATA / "coffee.jpg") as image:
        image.resize((1200, 800)).save(tmp_path / "x.jpg")  # large enough to shrink while it is decoded
    data = ImageData(str(tmp_path), 32, workers=0)
    (row,) = data.rows("train")
    assert torch.equal(data.read_fixed(row, torch.Generator())["media"], as_images(row.path, 32).pixels[0])
    where, mirror = torch.rand(2, generator=torch.Generator().manual_seed(3)).tolist()
    drawn = as_images(row.path, 32, where).pixels[0]
    expected = drawn.flip(-1) if mirror < 0.5 else drawn
    assert torch.equal(data._read(row, torch.Generator().manual_seed(3))["media"], expected)
