"""Real speech and a real photo that nobody trained on, to tokens and back with the embedded weights.

    python eval/demo.py -o out/demo

Prints tokens, bits and quality; writes the .tok, WAV and PNG files, and index.html to hear and see both sides.
"""

import argparse
import html
from pathlib import Path

import torch
from pystoi import stoi

import tokenizers_zoo as tz
from tokenizers_zoo.pictures import spectrogram

DATA = Path(__file__).parent.parent / "tests/data"
SPEECH, PHOTO = DATA / "sense_and_sensibility_0870.wav", DATA / "chelsea.jpg"
STYLE = """
body{font:16px/1.5 system-ui;max-width:60rem;margin:auto;padding:1rem}img{width:100%;image-rendering:pixelated}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(16rem,1fr));gap:1rem}audio{width:100%}figure{margin:0}
.sound img{height:9rem}
"""


def speech(folder: Path) -> tuple[str, str]:
    """What to print, and the section of the page."""
    tokenizer = tz.load("lm-spt-tiny")
    original = tz.Audio.load(SPEECH).mono().resample(tokenizer.sample_rate)
    tokens = tokenizer.encode(original)
    tokens.save(folder / "speech.tok")
    sides = {"original": original}
    sides |= {f"{n} codebook{'s' * (n > 1)}": tokenizer.decode(tokens.codebooks(n)) for n in (tokens.codes.shape[1], 1)}
    lines, figures = [f"speech: {tokenizer.name}, {SPEECH.name}, {tokens.codes[0].numel()} tokens"], []
    for name, audio in sides.items():
        stem = name.replace(" ", "_")
        audio.save(folder / f"{stem}.wav")
        picture = spectrogram(audio.waveform)[0].repeat(3, 1, 1)
        tz.Images(picture[None]).save(folder / f"{stem}.png")
        text = name
        if audio is not original:
            seconds = original.waveform.shape[-1] / original.sample_rate
            bits = float(tokens.codebooks(int(name.split()[0])).bits[0])
            x, y = original.waveform[0, 0], audio.waveform[0, 0]
            quality = stoi(x.numpy(), y.numpy(), original.sample_rate)
            snr = float(10 * (x.square().sum() / (x - y).square().sum()).log10())
            text = f"{name}: {bits:.0f} bits, {bits / seconds / 1000:.2f} kbit/s, STOI {quality:.3f}, SNR {snr:.1f} dB"
            lines.append(f"  {text}")
        figures.append(
            f"<figure><img src={stem}.png><audio controls src={stem}.wav></audio><figcaption>{text}</figcaption></figure>"
        )
    return "\n".join(lines), f"<h2>{html.escape(lines[0])}</h2><div class='pair sound'>{''.join(figures)}</div>"


def photo(folder: Path) -> tuple[str, str]:
    """What to print, and the section of the page."""
    tokenizer = tz.load("titok-tiny")
    original = tz.Images.load(PHOTO).resize_crop(tokenizer.image_size)
    tokens = tokenizer.encode(original)
    tokens.save(folder / "photo.tok")
    decoded = tokenizer.decode(tokens)
    original.save(folder / "photo_original.png")
    decoded.save(folder / "photo_decoded.png")
    psnr = float(-10 * (original.pixels - decoded.pixels).square().mean().log10())
    bits = float(tokens.bits[0])
    title = f"photo: {tokenizer.name}, {PHOTO.name} at {tokenizer.image_size} px, {tokens.codes[0].numel()} tokens"
    text = f"{bits:.0f} bits, {bits / tokenizer.image_size**2:.3f} bit/pixel, PSNR {psnr:.2f} dB"
    sides = {"original": "original", "decoded": text}
    figures = "".join(f"<figure><img src=photo_{k}.png><figcaption>{v}</figcaption></figure>" for k, v in sides.items())
    return f"{title}\n  {text}", f"<h2>{html.escape(title)}</h2><div class=pair>{figures}</div>"


def main() -> None:
    """Prints what became of the speech and the photo, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/demo"))
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    parts = [speech(folder), photo(folder)]
    head = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    (folder / "index.html").write_text(
        f"{head}<style>{STYLE}</style><h1>tokenizers_zoo: tokens and back</h1>{''.join(section for _, section in parts)}\n"
    )
    print("\n".join(text for text, _ in parts))
    print(f"open {folder / 'index.html'} to hear and see both sides; tokens, WAV and PNG files lie beside it")


if __name__ == "__main__":
    main()
