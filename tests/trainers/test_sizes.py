"""Training batches of several sizes in one run: each batch has one, all processes the same, whatever was resumed."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import DATA
from runs import image_data

import tokenizers_zoo as tz
from tokenizers_zoo.trainers.image_data import ImageData


def sizes_of(data: ImageData, epochs: int = 2) -> list[tuple[int, ...]]:
    loader, found = data.train_dataloader(), []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        found += [tuple(batch["media"].shape[-2:]) for batch in loader]
    return found


def photos(folder: Path, count: int) -> str:
    for n in range(count):
        shutil.copy(DATA / "chelsea.jpg", folder / f"{n}.jpg")
    return str(folder)


def test_batches_have_the_sizes_in_turn(tmp_path: Path) -> None:
    data = ImageData(photos(tmp_path, 7), 32, batch_size=2, workers=0, sizes=[32, 48, (16, 64), 32])
    assert sizes_of(data) == [(32, 32), (48, 48), (16, 64), (32, 32), (32, 32), (48, 48)]  # 3 batches an epoch
    assert next(iter(data.val_dataloader()))["media"].shape[-2:] == (32, 32)


def test_epochs_of_one_batch_take_turns_too() -> None:
    assert sizes_of(image_data(sizes=[32, 48]), epochs=4) == [(32, 32), (48, 48)] * 2


def test_processes_and_workers_agree(tmp_path: Path) -> None:
    folder, found = photos(tmp_path, 12), []
    for rank in range(2):
        data = ImageData(folder, 32, batch_size=2, workers=rank, sizes=[32, 48])
        data._place = lambda rank=rank: (rank, 2)
        found.append(sizes_of(data))
    assert found[0] == found[1] == [(32, 32), (48, 48)] * 3


def test_a_break_changes_no_size(tmp_path: Path) -> None:
    data = ImageData(photos(tmp_path, 8), 32, batch_size=2, workers=0, sizes=[32, 48, 64])
    loader = data.train_dataloader()
    loader.load_state_dict({"batches_done": 1})
    assert [batch["media"].shape[-1] for batch in loader] == [48, 64, 32]


def test_one_size_is_as_without_sizes() -> None:
    plain, listed = image_data(), image_data(sizes=[64])
    for a, b in zip(plain.train_dataloader(), listed.train_dataloader(), strict=True):
        assert torch.equal(a["media"], b["media"])


def test_a_broken_photo_is_bad_at_every_size(tmp_path: Path) -> None:
    photos(tmp_path, 1)
    (tmp_path / "empty.jpg").touch()
    draws = ImageData(str(tmp_path), 32, batch_size=1, workers=0, sizes=[32, 48]).draws()[0]
    with pytest.warns(UserWarning, match=r"empty\.jpg") as said:
        assert {draws[n]["media"].shape[-1] for n in range(8)} == {32, 48}
    assert len(said) == 1


@pytest.mark.parametrize("sizes", [[32, 0], [(32, -8)], [(8, 8, 8)], ["a"]])
def test_sizes_that_are_none_are_refused(sizes: list[object]) -> None:
    with pytest.raises(tz.InputError, match=r"data\.sizes"):
        image_data(sizes=sizes)
