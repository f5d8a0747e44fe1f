"""Reading a corpus back: by number, as a stream shared by readers, and by others."""

import json
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from corpora import made
from token_examples import CAPTIONED, SPEECH
from torch.utils.data import DataLoader

import tokenizers_zoo as tz
from tokenizers_zoo.corpus import TokenRow, TokenStream, shard
from tokenizers_zoo.corpus import dataset as dataset_module
from tokenizers_zoo.lm import Delay, Vocabulary

pytest.importorskip("pyarrow")


def keys(rows: list[TokenRow]) -> list[str]:
    return [row.key for row in rows]


def test_rows_are_what_was_encoded(tmp_path: Path) -> None:
    written = made(tmp_path)
    dataset = tz.TokenDataset(tmp_path)
    assert len(dataset) == 34
    assert dataset.spec == SPEECH
    assert [(row.key, row.tokens) for row in dataset] == written
    for index in (0, 7, 8, 29, 30, 33, -1, -34):
        assert (dataset[index].key, dataset[index].tokens) == written[index]
    row = dataset[31]
    assert (row.text, row.texts, row.speaker, row.split, row.label) == (
        "a cat",
        ["a cat", "ein Kater"],
        "speaker 1",
        "train",
        "7",
    )
    assert row.codes.dtype == "uint16"
    with pytest.raises(IndexError):
        dataset[34]


def test_captions_and_sizes_come_back(tmp_path: Path) -> None:
    written = made(tmp_path, (3,), CAPTIONED)
    assert [row.tokens for row in tz.TokenDataset(tmp_path)] == [tokens for _, tokens in written]
    assert tz.TokenDataset(tmp_path)[0].tokens.text == ("a cat",)


@pytest.mark.parametrize(
    ("largest", "width"), [(2, "uint8"), (256, "uint8"), (257, "uint16"), (65_537, "uint32"), (2**40, "uint64")]
)
def test_codes_are_no_wider_than_needed(tmp_path: Path, largest: int, width: str) -> None:
    spec = tz.TokenSpec("x", "image", (2, largest), ("pixel", "pixel"), "sequence", image_size=8, positions=8)
    written = made(tmp_path, (5,), spec)
    rows = list(tz.TokenDataset(tmp_path))
    assert {str(row.codes.dtype) for row in rows} == {width}
    assert [row.tokens for row in rows] == [tokens for _, tokens in written]


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = made(tmp_path)
    monkeypatch.setattr(dataset_module, "KEPT", 1)
    reads, read = [], dataset_module.read_rows
    monkeypatch.setattr(dataset_module, "read_rows", lambda *block: (reads.append(block), read(*block))[1])
    dataset = tz.TokenDataset(tmp_path)
    assert [dataset[index].key for index in (0, 1, 2, 33, 32, 0)] == [written[index][0] for index in (0, 1, 2, 33, 32, 0)]
    assert len(reads) == 3


def test_a_map_for_any_loader(tmp_path: Path) -> None:
    written = made(tmp_path)
    dataset = tz.TokenDataset(tmp_path, lambda row: row.codes.shape[1])
    loader = DataLoader(dataset, batch_size=5, shuffle=True, num_workers=2)
    lengths = torch.cat(list(loader)).tolist()
    assert sorted(lengths) == sorted(tokens.codes.shape[-1] for _, tokens in written)


@pytest.mark.parametrize("seed", [None, 5])
def test_two_ranks_of_two_workers_see_each_row_once(tmp_path: Path, seed: int | None) -> None:
    written = made(tmp_path, (30, 29, 28))
    dataset = tz.TokenDataset(tmp_path)
    seen = []
    for rank in range(2):
        loader = DataLoader(dataset.stream(seed, rank, 2), batch_size=None, num_workers=2)
        share = keys(list(loader))
        assert len(share) > 30
        seen += share
    assert sorted(seen) == sorted(key for key, _ in written)


def test_a_seed_shuffles_and_an_epoch_changes_it(tmp_path: Path) -> None:
    written = [key for key, _ in made(tmp_path, (250,))]
    stream = tz.TokenDataset(tmp_path).stream(seed=1)
    first, again = keys(list(stream)), keys(list(stream))
    assert first == again != written
    assert len({key.split("/")[1][:2] for key in first[:16]}) > 5  # of many blocks
    stream.set_epoch(1)
    second = keys(list(stream))
    assert second != first
    assert sorted(second) == sorted(first) == sorted(written)
    assert keys(list(tz.TokenDataset(tmp_path).stream())) == written


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("stop", [0, 1, 9, 128, 150, 260])
def test_going_on_in_mid_epoch(tmp_path: Path, seed: int | None, stop: int) -> None:
    made(tmp_path, (210, 50))
    stream = tz.TokenDataset(tmp_path).stream(seed)
    stream.set_epoch(2)
    whole = keys(list(stream))
    rows = iter(stream)
    begun = [next(rows).key for _ in range(stop)]
    state = json.loads(json.dumps(stream.state_dict()))
    other = tz.TokenDataset(tmp_path).stream(seed)
    other.load_state_dict(state)
    assert other.state_dict() == state
    other.set_epoch(2)  # what loops do at the beginning of each
    assert begun + keys(list(other)) == whole
    assert keys(list(other)) == whole
    other.load_state_dict(state)
    other.set_epoch(3)
    assert len(list(other)) == 260


def test_positions_of_others_are_refused(tmp_path: Path) -> None:
    made(tmp_path)
    dataset = tz.TokenDataset(tmp_path)
    state = dataset.stream(3).state_dict()
    with pytest.raises(tz.InputError, match="this position is of seed 3, the stream has 4"):
        dataset.stream(4).load_state_dict(state)
    stream = dataset.stream(3, rank=1, world=2)
    stream.load_state_dict(state)
    with pytest.raises(tz.InputError, match="of reader 0 of 1, here is 1 of 2: use as many processes"):
        next(iter(stream))
    with pytest.raises(tz.InputError, match="rank must be in"):
        dataset.stream(rank=2, world=2)
    with pytest.raises(tz.InputError, match="seed must be an integer"):
        dataset.stream(seed=-1)


@pytest.mark.filterwarnings("ignore")
def test_workers_keep_their_positions(tmp_path: Path) -> None:
    torchdata = pytest.importorskip("torchdata.stateful_dataloader")
    made(tmp_path, (30, 29))

    def loader() -> object:
        return torchdata.StatefulDataLoader(tz.TokenDataset(tmp_path).stream(3), batch_size=None, num_workers=2)

    whole, first, second = keys(list(loader())), loader(), loader()
    rows = iter(first)
    begun = [next(rows).key for _ in range(33)]
    second.load_state_dict(first.state_dict())
    assert begun + keys(list(second)) == whole


def test_a_dataset_travels_without_what_it_read(tmp_path: Path) -> None:
    made(tmp_path)
    dataset = tz.TokenDataset(tmp_path)
    before = len(pickle.dumps(dataset))
    assert dataset[5].key == "0/5.wav"
    assert len(pickle.dumps(dataset)) == before
    assert pickle.loads(pickle.dumps(dataset))[5].tokens == dataset[5].tokens
    assert isinstance(dataset.stream(), TokenStream)


def test_folders_that_are_no_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow
    from pyarrow import parquet

    with pytest.raises(tz.InputError, match="holds no corpus; `tokenizers-zoo tokenize NAME"):
        tz.TokenDataset(tmp_path)
    made(tmp_path, (1, 1))
    whole = (tmp_path / "000001-0.parquet").read_bytes()
    (tmp_path / "000001-0.parquet").write_bytes(whole[:100])
    with pytest.raises(tz.InputError, match="is not a whole Parquet file"):
        tz.TokenDataset(tmp_path)
    parquet.write_table(pyarrow.table({"key": ["a"]}), tmp_path / "000001-0.parquet")
    with pytest.raises(tz.InputError, match="is no shard of a corpus"):
        tz.TokenDataset(tmp_path)
    monkeypatch.setattr(shard, "FORMAT", 9)
    made(tmp_path, (1, 1))
    monkeypatch.undo()
    with pytest.raises(tz.InputError, match="has format 9, this version knows 1; upgrade"):
        tz.TokenDataset(tmp_path)
    made(tmp_path, (1,))
    made(tmp_path / "other", (1,), CAPTIONED)
    (tmp_path / "other/000000-0.parquet").rename(tmp_path / "000001-0.parquet")
    with pytest.raises(tz.InputError, match="is of other weights or settings than"):
        tz.TokenDataset(tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_hugging_face_datasets_read_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    written = made(tmp_path / "corpus")
    (tmp_path / "corpus/.lock").touch()
    found = datasets.load_dataset("parquet", data_dir=str(tmp_path / "corpus"), cache_dir=str(tmp_path / "cache"), split="train")
    assert found["key"][:] == [key for key, _ in written]
    assert found[7]["texts"] == ["a cat", "ein Kater"]
    assert all(
        torch.tensor(row["codes"]).equal(tokens.codes[0])
        for row, (_, tokens) in zip(found, written, strict=True)
        if row["length"]
    )
    assert found.features["codes"].feature.feature.dtype == "uint16"


def test_the_readme_reads_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```py\n(corpus = .*?)```", (Path(__file__).parents[2] / "README.md").read_text(), re.DOTALL)
    block = block.replace(block.splitlines()[-1], "")  # datasets, which has a test of its own
    vocabulary = Vocabulary(5, {"speech": Delay(SPEECH)})
    known = {"tz": tz, "torch": torch, "vocabulary": vocabulary, "tokenizer": lambda text: SimpleNamespace(input_ids=[1, 2])}
    exec(block, known)
    batches = list(known["loader"])
    assert sum(len(batch["input_ids"]) for batch in batches) == 34
    assert len(list(known["stream"])) == 34
