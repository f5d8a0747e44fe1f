"""Speed as ratios to named references in the same process: `make bench`, or `python benchmarks/run.py --rounds 3 --only image`.

DM-Codec at published size against the `speechtokenizer` package (same network and weights) and transformers' EncodecModel
(24 kHz); TiTok-S-128 and TexTok-VQ-32 against the same layers from torch.nn, Instella BAE against those of transformers' Qwen3,
one image at a time; all against themselves in bfloat16, with the share of codes that change. Ten seconds of speech or one image
an item, batches of 1 and 8. Calls of a group take turns; a ratio is the median over rounds of a subject's time by that of ours,
so above 1 means that ours is the faster.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import subjects
import torch
from measure import Call, Measurement, gigaflop, interleaved, machine, matmul_peak, peak_memory, ratio
from torch import Tensor, nn

import tokenizers_zoo as tz

BATCHES, SECONDS = (1, 8), 10.0


class Group(NamedTuple):
    """Calls by subject, ours first, that do the same: `amount` of `unit` in a batch. model: where LSTMs are counted."""

    name: str
    operation: str
    batch: int
    amount: float
    unit: str
    calls: dict[str, Call]
    model: nn.Module


def speech() -> Iterator[Group]:
    """Clips of SECONDS through DM-Codec, encoded and decoded."""
    try:
        ours, package = subjects.speechtokenizer()
    except ImportError as error:
        print(f"no comparison with the speechtokenizer package ({error}); `make bench` installs it")
        ours, package = subjects.dm_codec(), None
    encodec = subjects.encodec()
    networks = nn.ModuleList([ours, encodec])
    for batch in BATCHES:
        wave = subjects.speech(batch, SECONDS)
        codes = ours.quantizer.encode(ours.encode_latents(wave))
        other = subjects.speech(batch, SECONDS, 24_000)
        encoded = encodec.encode(other, bandwidth=6.0)
        encode: dict[str, Call] = {
            "ours": lambda w=wave: ours.quantizer.encode(ours.encode_latents(w)),
            "EncodecModel": lambda w=other: encodec.encode(w, bandwidth=6.0),
            "ours, bfloat16": lambda w=wave: bfloat16(lambda: ours.quantizer.encode(ours.encode_latents(w))),
        }
        decode: dict[str, Call] = {
            "ours": lambda c=codes: ours.decode_latents(ours.quantizer.decode(c)),
            "EncodecModel": lambda e=encoded: encodec.decode(e.audio_codes, e.audio_scales),
            "ours, bfloat16": lambda c=codes: bfloat16(lambda: ours.decode_latents(ours.quantizer.decode(c))),
        }
        if package is not None:
            theirs = codes.transpose(0, 1)
            assert (package.encode(wave) == theirs).float().mean() > 0.999
            encode["speechtokenizer"] = lambda w=wave: package.encode(w)
            decode["speechtokenizer"] = lambda c=theirs: package.decode(c)
            both: dict[str, Call] = {k: lambda e=encode[k], d=decode[k]: (e(), d()) for k in ("ours", "speechtokenizer")}
            yield Group("DM-Codec", "both", batch, batch * SECONDS, "s of audio", both, ours)
        yield Group("DM-Codec", "encode", batch, batch * SECONDS, "s of audio", encode, networks)
        yield Group("DM-Codec", "decode", batch, batch * SECONDS, "s of audio", decode, networks)


def image() -> Iterator[Group]:
    """Photos through TiTok-S-128, with captions of 16 tokens through TexTok-VQ-32, and one by one through Instella BAE."""
    yield from _photos("TiTok-S-128", "nn.MultiheadAttention", *subjects.titok(), BATCHES)
    caption = {"text": torch.randn(1, 16, 2048)}
    yield from _photos("TexTok-VQ-32", "nn.MultiheadAttention", *subjects.textok(), BATCHES, caption)
    yield from _photos("Instella BAE", "Qwen3 layers", *subjects.instella(), BATCHES[:1])


def _photos(
    name: str,
    reference: str,
    ours: tz.Tokenizer,
    plain: tz.Tokenizer,
    batches: Sequence[int],
    given: Mapping[str, Tensor] = MappingProxyType({}),
) -> Iterator[Group]:
    """Photos of 256 pixels through `ours` and the same of other layers. given: of each photo besides its pixels, (1, ...)."""
    size = {"size": (256, 256)} if ours.encoder.sizes else {}
    for batch in batches:
        pixels = subjects.images(batch, 256)
        beside = {key: value.expand(batch, -1, -1) for key, value in given.items()}
        codes = ours.quantizer.encode(ours.encode_latents(pixels, **beside))

        def encoded(tokenizer: tz.Tokenizer, x: Tensor = pixels, g: dict[str, Tensor] = beside) -> Tensor:
            return tokenizer.quantizer.encode(tokenizer.encode_latents(x, **g))

        def decoded(tokenizer: tz.Tokenizer, c: Tensor = codes, g: dict[str, Tensor] = beside) -> Tensor:
            return tokenizer.decode_latents(tokenizer.quantizer.decode(c), **size, **g)

        for verb, run in (("encode", encoded), ("decode", decoded)):
            calls: dict[str, Call] = {
                "ours": lambda run=run: run(ours),
                reference: lambda run=run: run(plain),
                "ours, bfloat16": lambda run=run: bfloat16(lambda: run(ours)),
            }
            yield Group(name, verb, batch, float(batch), "images", calls, ours)


def bfloat16(call: Call) -> object:
    with torch.autocast("cpu", torch.bfloat16):
        return call()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["speech", "image"])
    args = parser.parse_args()
    torch.manual_seed(0)
    peak = matmul_peak()
    rows, flips = [], {}
    print(f"{machine()}; float32 matrix product {peak:.0f} GFLOP/s")
    for part in (speech, image):
        if args.only not in (None, part.__name__):
            continue
        for group, operation, batch, amount, unit, calls, model in part():
            times = interleaved(calls, args.rounds)
            ours_work = gigaflop(calls["ours"], model)
            for subject, call in calls.items():
                seconds = sorted(times[subject])[args.rounds // 2]
                # torch's fused encoder layer hides from the counter; all but EncodecModel do the work of ours
                work = gigaflop(call, model) if subject == "EncodecModel" else ours_work
                speed = ratio(times, subject, "ours")
                row = Measurement(
                    group, operation, batch, subject, amount, unit, seconds, speed, work, work / seconds / peak, peak_memory(call)
                )
                rows.append(row)
                print(
                    f"{group:12} {operation:7} batch {batch}  {subject:22} {seconds:8.3f} s  {row.throughput:7.2f} {unit}/s  "
                    f"ratio {speed:5.2f}  {row.peak_fraction:4.0%} of peak  {row.memory_mb or 0:6.0f} MB",
                    flush=True,
                )
            if operation == "encode":
                changed = (calls["ours"]() != calls["ours, bfloat16"]()).float().mean().item()
                flips[f"{group}, batch {batch}"] = changed
                print(f"{group:12} encode  batch {batch}  bfloat16 changes {changed:.2%} of the codes")
    results = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "peak_gflops": peak, "bfloat16_flips": flips}
    results["rows"] = [row.as_dict() for row in rows]
    if args.only:
        return  # half a table would replace a whole one
    (Path(__file__).parent / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
