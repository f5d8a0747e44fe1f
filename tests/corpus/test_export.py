"""A corpus as others read it: WebDataset, LitData, litgpt."""

import json
import tarfile
from functools import partial
from pathlib import Path

import pytest
import torch
from corpora import made
from token_examples import SPEECH

import tokenizers_zoo as tz
from tokenizers_zoo.corpus import TokenRow
from tokenizers_zoo.corpus.export import to_litdata, to_litgpt, to_webdataset
from tokenizers_zoo.lm import Delay, Vocabulary

pytest.importorskip("pyarrow")


def test_tar_files(tmp_path: Path) -> None:
    written = made(tmp_path)
    to_webdataset(tz.TokenDataset(tmp_path), tmp_path / "tars", count=20)
    assert sorted(path.name for path in (tmp_path / "tars").iterdir()) == ["000000.tar", "000001.tar"]
    with tarfile.open(tmp_path / "tars/000001.tar") as tar:
        assert tar.getnames()[:3] == ["000000020.codes.npy", "000000020.json", "000000021.codes.npy"]
        words = json.load(tar.extractfile("000000020.json"))
    assert words["key"] == written[20][0]
    assert words["num_samples"] == int(written[20][1].conditions["num_samples"][0])
    assert words["texts"] == ["a cat", "ein Kater"]


@pytest.mark.filterwarnings("ignore")
def test_webdataset_reads_it(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    written = made(tmp_path)
    to_webdataset(tz.TokenDataset(tmp_path), tmp_path / "tars", count=20)
    names = [str(tmp_path / f"tars/{i:06d}.tar") for i in range(2)]
    samples = list(webdataset.WebDataset(names, shardshuffle=False).decode())
    assert [sample["json"]["key"] for sample in samples] == [key for key, _ in written]
    assert all(
        (sample["codes.npy"] == tokens.codes[0].numpy()).all() for sample, (_, tokens) in zip(samples, written, strict=True)
    )


def ids(vocabulary: Vocabulary, row: TokenRow) -> torch.Tensor:
    return vocabulary.sequence([row.tokens]).input_ids


@pytest.mark.filterwarnings("ignore")
def test_litdata_reads_it(tmp_path: Path) -> None:
    litdata = pytest.importorskip("litdata")
    made(tmp_path / "corpus")
    vocabulary = Vocabulary(0, {"speech": Delay(SPEECH)})
    dataset = tz.TokenDataset(tmp_path / "corpus")
    to_litdata(dataset, tmp_path / "chunks", partial(ids, vocabulary), chunk=512)
    stream = litdata.StreamingDataset(str(tmp_path / "chunks"), item_loader=litdata.TokensLoader(block_size=16))
    found = torch.cat([block.long() for block in stream])
    expected = torch.cat([ids(vocabulary, row) for row in dataset])
    assert len(found) > 0.8 * len(expected)  # what does not fill a block at a chunk's end is left out
    assert found[:128].equal(expected[:128])


def test_lines_for_litgpt(tmp_path: Path) -> None:
    written = made(tmp_path)
    dataset = tz.TokenDataset(tmp_path)
    vocabulary = Vocabulary(10, {"speech": Delay(SPEECH)}, named=True)
    to_litgpt(dataset, tmp_path / "codes.jsonl", vocabulary)
    lines = [json.loads(line) for line in (tmp_path / "codes.jsonl").read_text().splitlines()]
    known = {name: number for number, name in enumerate(vocabulary.names, vocabulary.text)}
    assert len(lines) == len(written)
    for line, (_, tokens) in zip(lines, written, strict=True):
        assert line["instruction"] == "a cat"
        names = [f"<|{name}" for name in line["output"].split("<|")[1:]]
        (found,) = vocabulary.split([known[name] for name in names])
        assert found.codes.equal(tokens.codes)
    with pytest.raises(tz.InputError, match=r"Vocabulary\(..., named=True\)"):
        to_litgpt(dataset, tmp_path / "codes.jsonl", Vocabulary(10, {"speech": Delay(SPEECH)}))


@pytest.mark.filterwarnings("ignore")
def test_litgpt_reads_them(tmp_path: Path) -> None:
    data, tokenizer = pytest.importorskip("litgpt.data"), pytest.importorskip("litgpt.tokenizer")
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    written = made(tmp_path)
    text = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "cat": 2}, "[UNK]"))
    text.pre_tokenizer = pre_tokenizers.Whitespace()
    vocabulary = Vocabulary(3, {"speech": Delay(SPEECH)}, named=True)
    text.add_special_tokens([AddedToken(name) for name in vocabulary.names])
    text.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "Fast", "eos_token": "<|zoo:end|>"}')
    to_litgpt(tz.TokenDataset(tmp_path), tmp_path / "codes.jsonl", vocabulary)
    module = data.JSON(tmp_path / "codes.jsonl", val_split_fraction=0.1, mask_prompt=True, num_workers=0)
    module.connect(tokenizer.Tokenizer(tmp_path), batch_size=1, max_seq_length=10_000)
    module.setup()
    found = [vocabulary.split(batch["labels"][0][batch["labels"][0] >= 0])[0] for batch in module.train_dataloader()]
    codes = {str(tokens.codes.tolist()) for _, tokens in written}
    assert len(found) > 25
    assert all(str(tokens.codes.tolist()) in codes for tokens in found)
