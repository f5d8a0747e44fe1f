"""A corpus in the formats that other trainers read. Rows are what a TokenDataset gives; files appear whole or not at all."""

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..files import atomic_path
from ..lm import Vocabulary
from ..tables import package
from .dataset import TokenDataset, TokenRow

Ids = Callable[[TokenRow], Tensor]  # ids of a language model, int64 (S,)


def to_webdataset(rows: Iterable[TokenRow], folder: str | Path, count: int = 10_000) -> None:
    """Tar files 000000.tar, 000001.tar, ... of `count` rows each, for `webdataset.WebDataset(...).decode()`.

    A sample has `codes.npy`, unsigned integers (codebook, position), and `json` with key, texts, speaker, split, label and what a
    decoder needs. Its name is a number, because WebDataset cuts names at their first dot.
    """
    shard: list[TokenRow] = []
    written = 0
    for row in rows:
        shard.append(row)
        if len(shard) == count:
            _tar(Path(folder), shard, written)
            shard, written = [], written + len(shard)
    if shard:
        _tar(Path(folder), shard, written)


def to_litdata(dataset: TokenDataset, folder: str | Path, ids: Ids, workers: int = 1, chunk: int = 2**24) -> None:
    """One stream of ids in LitData's chunks of `chunk` ids, for `StreamingDataset(folder, item_loader=TokensLoader(block_size))`.

    ids: of a row, e.g. `lambda row: vocabulary.sequence([text_ids(row.text), row.tokens]).input_ids`; with several workers it
    must be a function that they can import. Raises InputError without litdata.
    """
    litdata = package("litdata", "litdata")
    loader = package("litdata.streaming.item_loader", "litdata").TokensLoader
    makes = _Ids(dataset, ids)
    where = {"output_dir": str(folder), "num_workers": workers, "item_loader": loader()}
    litdata.optimize(makes, list(range(len(dataset))), chunk_size=chunk, **where)


def to_litgpt(rows: Iterable[TokenRow], path: str | Path, vocabulary: Vocabulary) -> None:
    """A .jsonl file for litgpt's `--data JSON`: the instruction is a row's text, the output its codes by name.

    vocabulary: one with `named=True`, whose tokenizer (`add_to`, then save_pretrained) litgpt is given. Raises InputError without
    names.
    """
    if not vocabulary.named:
        raise InputError("litgpt reads text, so codes need names there: Vocabulary(..., named=True)")
    names = np.array(vocabulary.names)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            ids = vocabulary.sequence([row.tokens]).input_ids[1:-1] - vocabulary.text  # without those of the whole sequence
            line = {"instruction": row.text, "input": "", "output": "".join(names[ids.numpy()])}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


class _Ids:
    """The ids of a row by its number, in the smallest type that all LitData's readers know."""

    def __init__(self, dataset: TokenDataset, ids: Ids):
        self.dataset, self.ids = dataset, ids

    def __call__(self, index: int) -> Tensor:
        return self.ids(self.dataset[index]).int()


def _tar(folder: Path, rows: Sequence[TokenRow], first: int) -> None:
    with atomic_path(folder / f"{first // max(1, len(rows)):06d}.tar") as temporary, tarfile.open(temporary, "w") as tar:
        for number, row in enumerate(rows, first):
            array = io.BytesIO()
            np.save(array, row.codes, allow_pickle=False)
            _add(tar, f"{number:09d}.codes.npy", array.getvalue())
            _add(tar, f"{number:09d}.json", json.dumps(_words(row), ensure_ascii=False).encode())


def _words(row: TokenRow) -> dict[str, Any]:
    words = {"key": row.key, "text": row.text, "texts": list(row.texts)}
    words |= {"speaker": row.speaker, "split": row.split, "label": row.label}
    return words | {name: np.asarray(value).tolist() for name, value in row.conditions.items()}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
