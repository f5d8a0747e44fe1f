"""A small Llama learns to speak in Hugging Face's own Trainer: what is said and by whom -> speech, on a corpus tokenized once.

Digits of the Free Spoken Digit Dataset, by a manifest with text, speaker and split; a text and a speaker are one id each:

    tokenizers-zoo tokenize lm-spt-tiny --data digits.csv -o corpus
    python trainers/lm/llama.py corpus -o out/llama                    # 200 steps; once more with --steps 400: goes on from there
    python trainers/lm/llama.py corpus -o out/llama --samples 500      # writes speech under the grammar, counts what decodes

needs: tokenizers-zoo[train,corpus] and accelerate
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

import tokenizers_zoo as tz
from tokenizers_zoo.corpus import TokenRow
from tokenizers_zoo.lm import Delay, Grammar, Vocabulary

SIZES = {
    "hidden_size": 320,
    "intermediate_size": 864,
    "num_hidden_layers": 7,
    "num_attention_heads": 5,
    "max_position_embeddings": 4096,
}
LONGEST, TOGETHER = 25, 50  # frames of a sample, 1 s; samples at a time


Pair = tuple[str, str]  # what is said, and by whom


def example(row: TokenRow, vocabulary: Vocabulary, ids: Mapping[Pair, list[int]]) -> Any:
    """What is said and by whom, then how it sounds."""
    return vocabulary.sequence([ids[row.text, row.speaker], row.tokens])


def train(model: LlamaForCausalLM, how: TrainingArguments, collate: Any, rows: Any, test: Any = None) -> None:
    """Up to `how.max_steps` steps in all, from the last checkpoint on. rows, test: datasets that `collate` makes batches of."""
    trainer = Trainer(model, how, train_dataset=rows, eval_dataset=test, data_collator=collate)
    begun = get_last_checkpoint(how.output_dir) if Path(how.output_dir).exists() else None
    trainer.train(resume_from_checkpoint=begun)


def written(
    model: LlamaForCausalLM,
    vocabulary: Vocabulary,
    part: str,
    prompts: Sequence[torch.Tensor],
    longest: int | None = None,
    **how: Any,
) -> Iterator[Any]:
    """What the model draws after each prompt (1, S) under the grammar: tokens of one item, if they decode.

    longest: positions of an item, where it has no number of its own. how: options of `generate`.
    """
    model.eval()
    grammar = Grammar(vocabulary) if longest is None else Grammar(vocabulary, most=longest)
    how |= {"do_sample": True, "eos_token_id": vocabulary.parts[part].end, "pad_token_id": vocabulary.pad}
    how |= {"logits_processor": [grammar], "max_new_tokens": grammar.ids(part)}
    for start in range(0, len(prompts), TOGETHER):
        for row in model.generate(torch.cat(prompts[start : start + TOGETHER]), **how):
            yield vocabulary.split(row)[-1]


def main() -> None:
    """Trains, or with --samples writes speech."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--samples", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(0)
    corpus = tz.TokenDataset(args.corpus)
    pairs = sorted({(row.text, row.speaker) for row in corpus})
    known = {word: i for i, word in enumerate(sorted({word for pair in pairs for word in pair}))}
    ids = {pair: [known[word] for word in pair] for pair in pairs}
    vocabulary = Vocabulary(len(known), {"speech": Delay(corpus.spec)})
    corpus.transform = partial(example, vocabulary=vocabulary, ids=ids)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary.size, tie_word_embeddings=True, **SIZES))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {vocabulary.size} ids")
    if not args.samples:
        how = TrainingArguments(
            str(args.output),
            max_steps=args.steps,
            per_device_train_batch_size=args.batch,
            learning_rate=1e-3,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=20,
            logging_steps=20,
            save_steps=100,
            report_to=[],
        )
        return train(model, how, vocabulary.collate, corpus)
    model = LlamaForCausalLM.from_pretrained(get_last_checkpoint(str(args.output)))
    prompts = [vocabulary.prompt([ids[pairs[n % len(pairs)]]], "speech") for n in range(args.samples)]
    said = written(model, vocabulary, "speech", prompts, LONGEST)
    whole = sum(isinstance(tokens, tz.Tokens) and int(tokens.lengths[0]) > 0 for tokens in said)
    print(f"{whole} of {args.samples} decode")


if __name__ == "__main__":
    main()
