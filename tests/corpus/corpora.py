"""Corpora and clips that several tests share."""

from pathlib import Path

import pytest
import torch
from conftest import DATA
from token_examples import SPEECH, random_codes

import tokenizers_zoo as tz
from tokenizers_zoo.corpus import Origin, shard
from tokenizers_zoo.manifest import Row

NAME = "dm-codec-tiny"


def made(folder: Path, counts: tuple[int, ...] = (30, 4), spec: tz.TokenSpec = SPEECH) -> list[tuple[str, tz.Tokens]]:
    """Writes shards with so many rows of made-up tokens, 8 of them in a block; returns them by key."""
    written = []
    for number, count in enumerate(counts):
        lengths = tuple(index % 9 for index in range(count))
        text = ["a cat"] * count if "text" in spec.conditions else None
        sizes = torch.tensor(lengths, dtype=torch.int16)
        conditions = {name: sizes for name in spec.conditions if name != "text"}
        batch = tz.Tokens(random_codes(spec, lengths), spec, lengths, text, **conditions)
        found = [
            (f"{number}/{i}.wav", Row(Path(f"{i}.wav"), ("a cat", "ein Kater"), f"speaker {i % 3}", "train", label="7"), tokens)
            for i, tokens in enumerate(batch)
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shard, "GROUP", 8)
            shard.write_shard(folder / f"{number:06d}-0.parquet", Origin(spec), found, [])
        written += [(key, tokens) for key, _, tokens in found]
    return written


def clips(folder: Path, count: int, seconds: float = 0.3) -> Path:
    """Short clips of real speech, and their manifest."""
    wave, samples = tz.Audio.load(DATA / "sense_and_sensibility_0870.wav").waveform, int(seconds * 16_000)
    for index in range(count):
        start = 3000 * index % (wave.shape[-1] - 2 * samples)
        tz.Audio(wave[..., start : start + samples + 160 * (index % 7)], 16_000).save(folder / f"{index:04d}.wav")
    lines = ["path,text,speaker", *(f"{index:04d}.wav,clip {index},s{index % 2}" for index in range(count))]
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder / "clips.csv"


def shards(out: Path) -> dict[str, bytes]:
    """Files of a corpus, those that are being written (.NAME) included."""
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != ".lock"}
