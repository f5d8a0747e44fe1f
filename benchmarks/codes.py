"""What became of the codes of the embedded weights since an earlier release: `python benchmarks/codes.py`.

Both releases, in processes of their own, encode and decode random tensors, the clips of tests/data as they are and at other
rates, and photos of tests/data, scikit-image and scikit-learn. Printed for each: changed codes, and quality of what is decoded,
theirs and ours: STOI against the clip, PSNR against the photo as ours reads it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soundfile
import torch

import tokenizers_zoo as tz

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests/data"
SPEECH, IMAGE = ("dm-codec-tiny", "lm-spt-tiny"), "titok-tiny"
RATES = (8_000, 22_050, 24_000, 44_100, 48_000)


def main() -> None:
    """Runs both releases and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default="84e32e1", help="what is compared with")
    parser.add_argument("--write", type=Path, nargs=2, metavar=("FOLDER", "NPZ"), help=argparse.SUPPRESS)  # what a release runs
    args = parser.parse_args()
    if args.write:
        return write(*args.write)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        archive = subprocess.run(["git", "-C", ROOT, "archive", args.commit], check=True, capture_output=True).stdout
        (work / "theirs").mkdir()
        subprocess.run(["tar", "x", "-C", work / "theirs"], input=archive, check=True)
        (work / "clips").mkdir()
        for clip in sorted(DATA.glob("*.wav")):
            for rate in (16_000, *RATES):
                tz.Audio.load(clip).resample(rate).save(work / f"clips/{clip.stem}@{rate}.wav")
        for name, code in (("theirs", work / "theirs"), ("ours", ROOT)):
            command = [sys.executable, str(Path(__file__).resolve()), "--write", str(work / "clips"), str(work / f"{name}.npz")]
            subprocess.run(command, check=True, cwd=code, env={**os.environ, "PYTHONPATH": str(code)})
        compare(work / "clips", np.load(work / "theirs.npz"), np.load(work / "ours.npz"))


def photos() -> list[Path]:
    """Those of tests/data and of two packages."""
    skimage, sklearn = (Path(str(find_spec(name).origin)).parent for name in ("skimage", "sklearn"))  # type: ignore[union-attr]
    named = [skimage / "data" / name for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")]
    return [*sorted(DATA.glob("*.jpg")), *named, *sorted((sklearn / "datasets/images").glob("*.jpg"))]


def write(clips: Path, path: Path) -> None:
    """Codes and decoded media, by what was encoded."""
    found, generator = {}, torch.Generator().manual_seed(0)
    waves, pictures = torch.randn(3, 1, 24_000, generator=generator) * 0.2, torch.rand(4, 3, 64, 64, generator=generator)
    ragged = [waves[0], waves[1][:, :9000]]
    for name in SPEECH:
        for key, source in (("tensors", waves), ("ragged", ragged), *((clip.stem, clip) for clip in sorted(clips.iterdir()))):
            tokens = (tokenizer := tz.load(name)).encode(source)
            found |= {f"{name} {key}": tokens.codes.numpy(), f"{name} {key} out": tokenizer.decode(tokens).waveform.numpy()}
    tokenizer = tz.load(IMAGE)
    for key, source in (("tensors", pictures), *((photo.name, photo) for photo in photos())):
        tokens = tokenizer.encode(source)
        found |= {f"{IMAGE} {key}": tokens.codes.numpy(), f"{IMAGE} {key} out": tokenizer.decode(tokens).pixels.numpy()}
    np.savez(path, **found)


def compare(clips: Path, theirs: "np.lib.npyio.NpzFile", ours: "np.lib.npyio.NpzFile") -> None:
    """Prints a line for each thing that was encoded."""
    from pystoi import stoi

    read = {photo.name: tz.Images.load(photo).resize_crop(64).pixels.numpy() for photo in photos()}
    for key in (key for key in ours if not key.endswith(" out")):
        before, after = theirs[key], ours[key]
        line = f"{key:52} {(before != after).sum():4} of {before.size:5} codes changed"
        decoded, name = (theirs[f"{key} out"], ours[f"{key} out"]), key.split(" ", 1)[1]
        if (clip := clips / f"{name.split('@')[0]}@16000.wav").exists():
            wave, rate = soundfile.read(clip)
            line += ", STOI " + " and ".join(f"{stoi(wave, out[0, 0, : len(wave)], rate):.4f}" for out in decoded)
        if name in read:
            line += ", PSNR " + " and ".join(f"{-10 * np.log10(np.square(out - read[name]).mean()):.3f}" for out in decoded)
        print(line, flush=True)


if __name__ == "__main__":
    main()
