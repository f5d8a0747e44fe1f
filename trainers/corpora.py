"""A manifest of one or several speech corpora in the layout in which they are published.

python trainers/corpora.py -o data/speech.csv speechocean762=FOLDER librispeech=FOLDER kathleen=FOLDER
python trainers/transcribe.py data/speech.csv WHISPER        # fills texts that a corpus lacks

speechocean762  OpenSLR 101, CC BY 4.0: its own train and test speakers
librispeech     OpenSLR 12, CC BY 4.0: SPEAKER-CHAPTER-NUMBER.flac anywhere below the folder, texts if *.trans.txt are there;
                dev* and test* folders become the splits valid and test
kathleen        github.com/rhasspy/dataset-voice-cathy, CC0: the last 120 sentences are the split test
clips           any folder of WAV and FLAC files, NAME.txt beside NAME.wav as the text; everything is for training
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from tokenizers_zoo.errors import InputError
from tokenizers_zoo.manifest import Row, write_manifest
from tokenizers_zoo.media import AudioFile


def speechocean762(folder: Path) -> Iterable[Row]:
    for split in ("train", "test"):
        table = {
            name: dict(line.split(None, 1) for line in (folder / split / name).read_text().splitlines())
            for name in ("wav.scp", "text", "utt2spk")
        }
        for utterance, path in table["wav.scp"].items():
            yield Row(folder / path, table["text"][utterance], f"so{table['utt2spk'][utterance]}", split)


def librispeech(folder: Path) -> Iterable[Row]:
    texts = dict(line.split(" ", 1) for table in folder.rglob("*.trans.txt") for line in table.read_text().splitlines())
    for path in sorted(folder.rglob("*.flac")):
        parts = path.relative_to(folder).parts
        split = "valid" if parts[0].startswith("dev") else "test" if parts[0].startswith("test") else "train"
        yield Row(path, texts.get(path.stem, ""), f"ls{path.stem.split('-')[0]}", split)


def kathleen(folder: Path) -> Iterable[Row]:
    files = sorted(folder.rglob("arctic_*.wav"))
    held_out = sorted({path.stem.rsplit("_", 1)[0] for path in files})[-120:]
    for path in files:
        split = "test" if path.stem.rsplit("_", 1)[0] in held_out else "train"
        yield Row(path, path.with_suffix(".txt").read_text().strip(), "kathleen", split)


def clips(folder: Path) -> Iterable[Row]:
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".wav", ".flac"}):
        text = path.with_suffix(".txt")
        yield Row(path, text.read_text().strip() if text.exists() else "", split="train")


CORPORA: dict[str, Callable[[Path], Iterable[Row]]] = {f.__name__: f for f in (speechocean762, librispeech, kathleen, clips)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+", metavar="CORPUS=FOLDER")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    rows = []
    for name, folder in (corpus.split("=", 1) for corpus in args.corpora):
        for row in CORPORA[name](Path(folder).resolve()):
            try:
                with AudioFile(row.path) as file:
                    rows.append(dataclasses.replace(row, seconds=file.frames / file.rate))
            except (InputError, FileNotFoundError) as error:
                print(f"left out: {error}", file=sys.stderr)
    write_manifest(args.output, rows)
    for split in sorted({row.split for row in rows}):
        chosen = [row for row in rows if row.split == split]
        print(f"{split}: {len(chosen)} clips, {sum(row.seconds for row in chosen) / 3600:.2f} h")


if __name__ == "__main__":
    main()
