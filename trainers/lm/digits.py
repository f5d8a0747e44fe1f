"""A small Llama says digits: which one and in whose voice -> speech, by the first codebooks of lm-spt-tiny (figures: digits.md).

Learns the clips of the Free Spoken Digit Dataset that the manifest's column split calls train; on those it calls test its loss
is told. A digit and a speaker are one id each:

    tokenizers-zoo tokenize lm-spt-tiny --data digits.csv -o corpus
    python trainers/lm/digits.py corpus -o out/digits                    # a checkpoint every 200 steps; once more: goes on
    python trainers/lm/digits.py corpus -o out/digits --samples 300      # writes out/digits/said.csv and its sounds
    python eval/digits.py digits.csv out/digits/*.csv --whisper openai/whisper-base

needs: tokenizers-zoo[train,corpus] and accelerate
"""

import argparse
import csv
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from llama import train, written
from torch.utils.data import Subset
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

import tokenizers_zoo as tz
from tokenizers_zoo.corpus import TokenRow
from tokenizers_zoo.lm import Delay, Vocabulary

SIZES = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}
LONGEST = 40  # frames of a sample, 1.6 s

Said = tuple[str, str, tz.Tokens]  # a digit, by whom, and how it sounds


def example(row: TokenRow, vocabulary: Vocabulary, ids: Mapping[str, int]) -> Any:
    """The digit and the speaker, then how it sounds."""
    books = len(vocabulary.parts["speech"].pattern.spec.roles)
    return vocabulary.sequence([[ids[row.text], ids[row.speaker]], row.tokens.codebooks(books)])


def write(folder: Path, name: str, codec: tz.Tokenizer, said: Iterable[Said]) -> None:
    """Sounds in folder/name, and their manifest, folder/name.csv."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "text", "speaker"])
        for number, (digit, speaker, tokens) in enumerate(said):
            codec.decode(tokens).save(folder / name / f"{number:04d}.wav")
            table.writerow([f"{name}/{number:04d}.wav", digit, speaker])


def main() -> None:
    """Trains, or with --samples writes speech."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--codebooks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    corpus, codec = tz.TokenDataset(args.corpus), tz.load("lm-spt-tiny")
    rows = list(corpus)
    ids = {word: i for i, word in enumerate(sorted({word for row in rows for word in (row.text, row.speaker)}))}
    vocabulary = Vocabulary(len(ids), {"speech": Delay(rows[0].tokens.codebooks(args.codebooks).spec)})
    if args.samples:
        model = LlamaForCausalLM.from_pretrained(get_last_checkpoint(str(args.output)))
        pairs = sorted({(row.text, row.speaker) for row in rows})
        pairs = [pairs[n % len(pairs)] for n in range(args.samples)]
        prompts = [vocabulary.prompt([[ids[digit], ids[speaker]]], "speech") for digit, speaker in pairs]
        said = list(written(model, vocabulary, "speech", prompts, LONGEST, top_k=0, temperature=args.temperature))
        print(f"{sum(int(tokens.lengths[0]) > 0 for tokens in said)} of {len(said)} decode")
        write(args.output, "said", codec, ((*pair, tokens) for pair, tokens in zip(pairs, said, strict=True)))
        real = [row for row in rows if row.split == "test"]
        for books in (args.codebooks, len(codec.spec.roles)):
            decoded = ((row.text, row.speaker, row.tokens.codebooks(books)) for row in real)
            write(args.output, f"decoded-{books}", codec, decoded)
        return
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary.text, tie_word_embeddings=True, **SIZES))
    vocabulary.add_to(None, model, {"speech": codec})
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {vocabulary.size} ids")
    corpus.transform = partial(example, vocabulary=vocabulary, ids=ids)
    sets = {name: Subset(corpus, [i for i, row in enumerate(rows) if row.split == name]) for name in ("train", "test")}
    how = TrainingArguments(
        str(args.output),
        max_steps=args.steps,
        per_device_train_batch_size=args.batch,
        learning_rate=2e-3,
        lr_scheduler_type="cosine",
        warmup_steps=50,
        weight_decay=0.1,
        logging_steps=20,
        eval_strategy="steps",
        eval_steps=200,
        save_steps=200,
        save_total_limit=1,
        report_to=[],
    )
    train(model, how, vocabulary.collate, sets["train"], sets["test"])


if __name__ == "__main__":
    main()
