"""A manifest of photos with captions, of data sets in the layout in which they are published.

python trainers/captions.py -o data/captions.jsonl tinyimagenet=FOLDER flickr8k=FOLDER

tinyimagenet  Tiny ImageNet (ImageNet's terms: research use): a photo's caption is the first name of its class in words.txt, its
              label the class; its val folder is the split valid
flickr8k      Flickr8k (research use), images/ and captions.txt (image,caption): for training a row for each caption, so that each
              photo comes as often as it has captions; the last 100 photos, with all their captions, are the split test
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from tokenizers_zoo.manifest import Row, write_manifest


def tinyimagenet(folder: Path) -> Iterable[Row]:
    names = dict(line.split("\t", 1) for line in (folder / "words.txt").read_text().splitlines())
    annotations = [line.split("\t")[:2] for line in (folder / "val/val_annotations.txt").read_text().splitlines()]
    labels = {folder / "val/images" / name: label for name, label in annotations}
    for path in sorted((folder / "train").rglob("*.JPEG")) + sorted(labels):
        label = labels.get(path) or path.name.split("_")[0]
        yield Row(path, names[label].split(",")[0], split="valid" if path in labels else "train", label=label)


def flickr8k(folder: Path) -> Iterable[Row]:
    captions: dict[str, list[str]] = {}
    for line in (folder / "captions.txt").read_text().splitlines()[1:]:
        name, caption = line.split(",", 1)
        captions.setdefault(name, []).append(caption.strip().strip('"'))
    held_out = sorted(captions)[-100:]
    for name, texts in sorted(captions.items()):
        path = folder / "images" / name
        if name in held_out:
            yield Row(path, tuple(texts), split="test")
        else:
            yield from (Row(path, text, split="train") for text in texts)


CORPORA: dict[str, Callable[[Path], Iterable[Row]]] = {f.__name__: f for f in (tinyimagenet, flickr8k)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+", metavar="CORPUS=FOLDER")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    rows: list[Row] = []
    for name, folder in (corpus.split("=", 1) for corpus in args.corpora):
        rows += CORPORA[name](Path(folder).resolve())
    write_manifest(args.output, rows)
    for split, count in Counter(row.split for row in rows).items():
        print(f"{split}: {count} rows, {len({text for row in rows if row.split == split for text in row.texts})} captions")


if __name__ == "__main__":
    main()
