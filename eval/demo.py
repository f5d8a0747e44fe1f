"""Real speech and a real photo that nobody trained on, to tokens and back with every tokenizer whose weights are embedded.

    python eval/demo.py -o out/demo

Prints tokens, bits and quality; writes the .tok, WAV and PNG files, and index.html to hear and see them side by side.
"""

import argparse
import html
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from pystoi import stoi

import tokenizers_zoo as tz
from tokenizers_zoo.pictures import spectrogram
from tokenizers_zoo.weights import is_embedded

DATA = Path(__file__).parent.parent / "tests/data"
SPEECH, PHOTO, CAPTION = DATA / "sense_and_sensibility_0870.wav", DATA / "chelsea.jpg", "a close photo of a tabby cat"
LENGTHS = {"flextok-tiny": (1, 4, 16, 64), "textok-tiny": (16, 64), "tokenflow-tiny": (21, 85)}  # of the first tokens
STYLE = """
body{font:16px/1.5 system-ui;max-width:70rem;margin:auto;padding:1rem;overflow-wrap:anywhere}
img{width:100%;image-rendering:pixelated}
.side{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:1rem}.sound{grid-template-columns:repeat(auto-fill,minmax(16rem,1fr))}
figure{margin:0}audio{width:100%}.sound img{height:9rem}
"""


def speech(folder: Path, tokenizers: Iterable[tz.AudioTokenizer]) -> Iterator[tuple[str, str]]:
    """What to print, and a figure of the page, for each way to decode."""
    original = tz.Audio.load(SPEECH).mono()
    yield heard(folder, "original", original), f"{original.sample_rate / 1000:g} kHz"
    for tokenizer in tokenizers:
        clip = original.resample(tokenizer.sample_rate)
        tokens = tokenizer.encode(clip)
        tokens.save(folder / f"{tokenizer.name}.tok")
        x = clip.waveform[0, 0]
        for count in (tokens.codes.shape[1], 1):
            some = tokens.codebooks(count)
            audio = tokenizer.decode(some)
            rate = float(some.bits[0]) / (len(x) / clip.sample_rate) / 1000
            text = f"{tokenizer.name}, {count} codebook{'s' * (count > 1)}: {rate:.2f} kbit/s"
            text += f", STOI {stoi(x.numpy(), audio.waveform[0, 0].numpy(), clip.sample_rate):.3f}"
            yield heard(folder, f"{tokenizer.name}_{count}", audio), text


def heard(folder: Path, stem: str, audio: tz.Audio) -> str:
    """HTML of a clip and its spectrogram, whose files are written."""
    audio.save(folder / f"speech_{stem}.wav")
    tz.Images(spectrogram(audio.waveform)[0].repeat(3, 1, 1)[None]).save(folder / f"speech_{stem}.png")
    return f"<img src=speech_{stem}.png><audio controls src=speech_{stem}.wav></audio>"


def photo(folder: Path, tokenizers: Iterable[tz.ImageTokenizer]) -> Iterator[tuple[str, str]]:
    """The same of the photo, at the size of each tokenizer."""
    original = tz.Images.load(PHOTO)
    original.resize_crop(64).save(folder / "photo_original.png")
    yield "<img src=photo_original.png>", "64 x 64 pixels"
    for tokenizer in tokenizers:
        image = original.resize_crop(tokenizer.image_size)
        given = {"text": CAPTION} if "text" in tokenizer.takes else {}
        tokens = tokenizer.encode(image, **given)
        tokens.save(folder / f"{tokenizer.name}.tok")
        whole = tokens.codes.shape[-1]
        for count in LENGTHS.get(tokenizer.name, (whole,)):
            some = tokens.prefix(count) if count < whole else tokens
            decoded = tokenizer.decode(some)
            file = f"photo_{tokenizer.name}_{count}.png"
            decoded.save(folder / file)
            psnr = float(-10 * (image.pixels - decoded.pixels).square().mean().log10())
            text = f"{tokenizer.name}, {count} position{'s' * (count > 1)}: {float(some.bits[0]):.0f} bits, PSNR {psnr:.2f} dB"
            yield f"<img src={file}>", text


def main() -> None:
    """Prints what became of the speech and the photo, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/demo"))
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    loaded = [tz.load(name) for name in tz.list_tokenizers() if is_embedded(name)]
    tokenizers = [tokenizer for tokenizer in loaded if tokenizer.quantizer is not None]  # others have no tokens
    page = ["<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"]
    page.append(f"<title>tokens and back</title><style>{STYLE}</style><h1>tokenizers_zoo: tokens and back</h1>")
    for title, kind, show, look in (
        (f"speech: {SPEECH.name}", tz.AudioTokenizer, speech, "side sound"),
        (f'photo: {PHOTO.name}, where a caption is taken "{CAPTION}"', tz.ImageTokenizer, photo, "side"),
    ):
        print(title)
        page.append(f"<h2>{html.escape(title)}</h2><div class='{look}'>")
        for figure, text in show(folder, [tokenizer for tokenizer in tokenizers if isinstance(tokenizer, kind)]):
            print(f"  {text}")
            page.append(f"<figure>{figure}<figcaption>{html.escape(text)}</figcaption></figure>")
        page.append("</div>")
    (folder / "index.html").write_text("".join(page) + "\n")
    print(f"open {folder / 'index.html'} to hear and see both sides; tokens, WAV and PNG files lie beside it")


if __name__ == "__main__":
    main()
