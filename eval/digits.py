"""Which digit is heard: the share of clips of spoken digits that are recognised, by networks that the speaker never taught.

    python eval/digits.py digits.csv out/digits/said.csv out/digits/decoded-7.csv --whisper openai/whisper-base

digits.csv is a manifest of real recordings (path, text, speaker), as that of the Free Spoken Digit Dataset; the others are
judged, and the first of them is compared with the rest. For each speaker a small convolutional network learns the log-mels of
all real recordings by others and hears that speaker's clips. Whisper hears each clip with silence up to 3 s and has to begin with
one of the ten digits, as a word or a number. Intervals are bootstraps over clips, 95 %.
"""

import argparse
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

import tokenizers_zoo as tz
from tokenizers_zoo.manifest import Row, read_manifest

RATE, BANDS, FRAMES = 16_000, 40, 32
HIGHEST = 3800  # Hz: the recordings have a rate of 8 kHz
RESAMPLES = 10_000
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def listen(row: Row) -> Tensor:
    """A clip's samples at 16 kHz, (S,)."""
    return tz.Audio.load(row.path).mono().resample(RATE).waveform.flatten()


def log_mel(wave: Tensor) -> Tensor:
    """(S,) -> (BANDS, FRAMES): what is within 30 dB of the loudest frame, stretched to one length, mean 0 and deviation 1."""
    wave = F.pad(wave, (0, max(0, RATE // 10 - len(wave))))
    power = torch.stft(wave, 512, 160, 400, torch.hann_window(400), return_complex=True).abs().square()
    mel = melscale_fbanks(257, 100.0, HIGHEST, BANDS, RATE).T @ power
    loud = (mel.sum(0) >= 1e-3 * mel.sum(0).max()).nonzero().flatten()
    mel = mel[:, loud[0] : loud[-1] + 1]
    logs = F.interpolate(mel.clamp(min=float(mel.max()) * 1e-6 + 1e-12).log()[None], FRAMES, mode="linear")[0]
    return (logs - logs.mean()) / logs.std().clamp(min=1e-6)


def network() -> nn.Sequential:
    """Log-mels (B, 1, BANDS, FRAMES) -> logits of ten digits."""

    def block(inside: int, outside: int) -> list[nn.Module]:
        return [nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]

    pooled = [*block(1, 16), nn.MaxPool2d(2), *block(16, 32), nn.MaxPool2d(2), *block(32, 64)]
    return nn.Sequential(*pooled, nn.Flatten(), nn.Dropout(0.5), nn.Linear(64 * (BANDS // 4) * (FRAMES // 4), len(WORDS)))


def learn(mels: Tensor, digits: Tensor, epochs: int, batch: int = 64) -> nn.Sequential:
    """A classifier of (N, BANDS, FRAMES). Shifts stand for other vocal tracts and timing, a tilt for other microphones."""
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * (len(mels) // batch))
    slope = torch.linspace(-0.5, 0.5, BANDS)[:, None]
    for _ in range(epochs):
        for chosen in torch.randperm(len(mels)).split(batch)[: len(mels) // batch]:
            up, later = torch.randint(-3, 4, (2,)).tolist()
            heard = mels[chosen].roll((up, later), (1, 2)) + slope * torch.randn(batch, 1, 1)
            heard = heard + 0.15 * torch.randn_like(heard)
            optimizer.zero_grad()
            F.cross_entropy(model(heard[:, None]), digits[chosen], label_smoothing=0.1).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def by_others(real: Sequence[Row], sets: Sequence[Sequence[Row]], epochs: int, folder: Path | None) -> list[np.ndarray]:
    """Of each clip of the sets whether the classifier taught by the other speakers' recordings hears its digit."""
    heard = [torch.stack([log_mel(listen(row)) for row in rows]) for rows in sets]
    digits, found = torch.tensor([int(row.text) for row in real]), [np.zeros(len(rows), bool) for rows in sets]
    taught = cache(lambda: torch.stack([log_mel(listen(row)) for row in real]))
    for speaker in sorted({row.speaker for rows in sets for row in rows}):
        kept = folder / f"{speaker}.safetensors" if folder else None
        if kept and kept.exists():
            model = network().eval()
            model.load_state_dict(load_file(kept))
        else:
            others = torch.tensor([row.speaker != speaker for row in real])
            model = learn(taught()[others], digits[others], epochs)
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                save_file(model.state_dict(), kept)
        for rows, clips, right in zip(sets, heard, found, strict=True):
            own = [i for i, row in enumerate(rows) if row.speaker == speaker]
            with torch.inference_mode():
                guesses = model(clips[own][:, None]).argmax(1).tolist() if own else []
            right[own] = [guess == int(rows[i].text) for i, guess in zip(own, guesses, strict=True)]
    return found


@torch.inference_mode()
def by_whisper(path: str, sets: Sequence[Sequence[Row]], seconds: int = 3) -> list[np.ndarray]:
    """The same by Whisper, that may begin with a digit alone."""
    from transformers import AutoTokenizer, WhisperForConditionalGeneration
    from transformers.modeling_outputs import BaseModelOutput

    from tokenizers_zoo.teachers.whisper import WhisperEncoder

    encoder, words = WhisperEncoder(path), AutoTokenizer.from_pretrained(path)
    model = WhisperForConditionalGeneration.from_pretrained(path).eval()
    marks = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    start = torch.tensor([words.convert_tokens_to_ids(marks)])
    forms = [(f" {word.title()}", f" {number}") for number, word in enumerate(WORDS)]  # each is one token
    first = torch.tensor([[words(form, add_special_tokens=False).input_ids[0] for form in pair] for pair in forms])
    found = []
    for rows in sets:
        right = []
        for row in rows:
            wave = listen(row)[: seconds * RATE]
            states = encoder(F.pad(wave, (0, seconds * RATE - len(wave)))[None])
            logits = model(encoder_outputs=BaseModelOutput(states), decoder_input_ids=start).logits[0, -1]
            right.append(int(logits[first].logsumexp(1).argmax()) == int(row.text))
        found.append(np.array(right))
    return found


def report(judge: str, names: Sequence[str], found: Sequence[np.ndarray]) -> None:
    """A line a set: its share, and what the first one's is of it."""
    random = np.random.default_rng(0)
    drawn = [right[random.integers(len(right), size=(RESAMPLES, len(right)))].mean(1) for right in found]
    for name, right, shares in zip(names, found, drawn, strict=True):
        low, high = np.quantile(shares, [0.025, 0.975])
        line = f"| {judge} | {name} | {len(right)} | {right.mean():.3f} ({low:.3f} to {high:.3f}) |"
        if right is not found[0]:
            low, high = np.quantile(drawn[0] / shares.clip(min=1e-9), [0.025, 0.975])
            line += f" {found[0].mean() / right.mean():.3f} ({low:.3f} to {high:.3f}) |"
        print(line, flush=True)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path)
    parser.add_argument("judged", type=Path, nargs="+")
    parser.add_argument("--whisper", help="a folder, or a name of the Hugging Face Hub")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--classifiers", type=Path, help="a folder where they are kept, and taken from if they are there")
    args = parser.parse_args()
    names, sets = [path.stem for path in args.judged], [read_manifest(path, ()) for path in args.judged]
    print("| judge | clips | number | recognised | first of it |")
    report("classifier", names, by_others(read_manifest(args.real, ()), sets, args.epochs, args.classifiers))
    if args.whisper:
        report("Whisper", names, by_whisper(args.whisper, sets))


if __name__ == "__main__":
    main()
