"""Fills the texts that a manifest lacks, by a speech recogniser: language-model guidance needs them.

python trainers/transcribe.py data/speech.csv openai/whisper-tiny.en
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from tqdm import tqdm

from tokenizers_zoo.errors import InputError
from tokenizers_zoo.manifest import read_manifest, write_manifest
from tokenizers_zoo.media import as_audio
from tokenizers_zoo.teachers.recognizer import SpeechRecognizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("recognizer", help="Hugging Face name or local folder")
    args = parser.parse_args()
    rows, listen = read_manifest(args.manifest, ()), SpeechRecognizer(args.recognizer)
    for index in tqdm([i for i, row in enumerate(rows) if not row.text]):
        try:
            wave = as_audio(rows[index].path, 16000).waveform[0, 0]
        except (InputError, FileNotFoundError) as error:
            tqdm.write(f"left without a text: {error}", file=sys.stderr)
            continue
        rows[index] = dataclasses.replace(rows[index], texts=(listen([wave])[0],))
    write_manifest(args.manifest, rows)


if __name__ == "__main__":
    main()
