"""A small Llama learns to draw: a class -> the codes of a photo, beside what single codes and pairs of codes alone would draw.

    python trainers/captions.py -o photos.jsonl tinyimagenet=tiny-imagenet-200
    tokenizers-zoo tokenize titok-tiny --data photos.jsonl -o corpus
    python trainers/lm/photos.py corpus -o out/photos                  # once more: goes on from the last checkpoint
    python trainers/lm/photos.py corpus -o out/photos --samples 1000   # Frechet distances, and pictures of samples

Rows of split `train` teach; what is drawn is compared with codes of `valid`, both decoded.

needs: tokenizers-zoo[train,corpus,eval] and accelerate; timm's tf_efficientnet_lite2 (24 MB), or a local copy: --judge FILE
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from llama import train, written
from torch import Tensor
from torch.utils.data import Subset
from torchvision.utils import save_image
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

import tokenizers_zoo as tz
from tokenizers_zoo.corpus import TokenRow
from tokenizers_zoo.eval.distribution import FrechetDistance
from tokenizers_zoo.lm import Flatten, Vocabulary

SIZES = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 6}
TOGETHER = 100  # photos that are decoded at a time


def example(row: TokenRow, vocabulary: Vocabulary, classes: Mapping[str, int]) -> Any:
    """A class, then its photo."""
    return vocabulary.sequence([[classes[row.label]], row.tokens])


def unigram(codes: Tensor, count: int) -> Tensor:
    """Photos (count, K, T) whose codes are drawn one by one from all of `codes` (N, K, T)."""
    return codes.flatten()[torch.randint(codes.numel(), (count, *codes.shape[1:]))]


def bigram(codes: Tensor, count: int) -> Tensor:
    """Photos (count, 1, T) that begin as one of `codes` (N, 1, T) and go on with what followed the last code somewhere."""
    before, after = codes[:, 0, :-1].flatten(), codes[:, 0, 1:].flatten()
    followers = after[before.argsort()]
    many = torch.bincount(before, minlength=int(codes.max()) + 1)
    first = many.cumsum(0) - many
    photos = [codes[torch.randint(len(codes), (count,)), 0, 0]]
    for _ in range(codes.shape[-1] - 1):
        last = photos[-1]
        place = first[last] + (torch.rand(count) * many[last]).long()
        photos.append(followers[place.clamp(max=len(followers) - 1)].where(many[last] > 0, unigram(codes, count)[:, 0, 0]))
    return torch.stack(photos, -1)[:, None]


def judged(
    sources: Mapping[str, Callable[[], Tensor]], real: Tensor, codec: tz.Tokenizer, judge: FrechetDistance, folder: Path
) -> None:
    """Prints the distance of each source's photos from `real` codes' photos, and writes a picture of some of them."""

    def photos(codes: Tensor) -> list[Tensor]:
        parts = (codec.decode(tz.Tokens(part, codec.spec)).pixels for part in codes.split(TOGETHER))
        return [(255 * photo).round() / 255 for part in parts for photo in part]

    truth = judge.seen(photos(real))
    print(f"| codes of {len(real)} photos | {judge.key} | 95 % |\n|---|---|---|")
    for name, source in sources.items():
        made = photos(source())
        items = [{f"{judge.key}_original": a, f"{judge.key}_decoded": b} for a, b in zip(truth, judge.seen(made), strict=True)]
        found = judge.summary(items)[judge.key]
        print(f"| {name} | {found['value']:.0f} | {found['low']:.0f} to {found['high']:.0f} |", flush=True)
        save_image(made[:32], folder / f"{name.replace(' ', '-')}.png", nrow=8, padding=1)


def main() -> None:
    """Trains, or with --samples draws and judges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--judge", help="weights of timm's tf_efficientnet_lite2")
    args = parser.parse_args()
    torch.manual_seed(0)
    corpus = tz.TokenDataset(args.corpus)
    rows = [(row.split, row.label) for row in corpus]
    classes = {label: i for i, label in enumerate(sorted({label for _, label in rows}))}
    vocabulary = Vocabulary(len(classes), {"image": Flatten(corpus.spec)})
    parts = {name: [i for i, (split, _) in enumerate(rows) if split == name] for name in ("train", "valid")}
    codec = tz.load(corpus.spec.name)
    if not args.samples:
        corpus.transform = partial(example, vocabulary=vocabulary, classes=classes)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(classes), tie_word_embeddings=True, **SIZES))
        vocabulary.add_to(None, model, {"image": codec})
        print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {vocabulary.size} ids, {len(parts['train'])} photos")
        how = TrainingArguments(
            str(args.output),
            max_steps=args.steps,
            per_device_train_batch_size=args.batch,
            learning_rate=2e-3,
            adam_beta2=0.95,
            weight_decay=0.05,
            lr_scheduler_type="cosine",
            warmup_steps=100,
            logging_steps=50,
            save_steps=200,
            save_total_limit=2,
            report_to=[],
        )
        return train(model, how, vocabulary.collate, Subset(corpus, parts["train"]))
    codes = torch.cat([corpus[i].tokens.codes for i in parts["train"]])
    held = torch.randperm(len(parts["valid"]))[: 2 * args.samples].tolist()
    real, others = torch.cat([corpus[parts["valid"][i]].tokens.codes for i in held]).split(args.samples)
    labels = [classes[rows[parts["valid"][i]][1]] for i in held[: args.samples]]
    prompts = [vocabulary.prompt([[label]], "image") for label in labels]
    model = LlamaForCausalLM.from_pretrained(get_last_checkpoint(str(args.output)))
    sources: dict[str, Callable[[], Tensor]] = {
        "other real photos": lambda: others,
        "the model": lambda: torch.cat([photo.codes for photo in written(model, vocabulary, "image", prompts, top_k=0)]),
        "bigram": lambda: bigram(codes, args.samples),
        "unigram": lambda: unigram(codes, args.samples),
    }
    with torch.no_grad():
        judged(sources, real, codec, FrechetDistance(weights=args.judge), args.output)


if __name__ == "__main__":
    main()
