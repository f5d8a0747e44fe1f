"""What a grammar does and what it costs: `python benchmarks/grammar.py`.

First, for each pattern, how many of --samples sequences of an untrained model of 0.1 M are whole items, under the grammar and
without it; then the time of the grammar beside that of a step of a model with 100 M parameters, --rows sequences of --ids ids.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/lm")]

from lm_examples import built  # noqa: E402

from tokenizers_zoo import TokenError, TokenSpec  # noqa: E402
from tokenizers_zoo.lm import CoarseFirst, Delay, Grammar, Pattern, Vocabulary  # noqa: E402

PATTERNS = ["flatten", "delay", "delays", "moshi", "parallel", "coarse", "semantic"]
CASES = [(maker, "two semantic") for maker in PATTERNS] + [("rows", "square"), ("scales", "scales"), ("nested", "fsq")]
TEXT = 300


def llama(rows: int, wide: int, layers: int) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=rows,
        hidden_size=wide,
        intermediate_size=4 * wide,
        num_hidden_layers=layers,
        num_attention_heads=wide // 32,
        tie_word_embeddings=True,
    )
    return transformers.LlamaForCausalLM(config).eval()


def share(pattern: Pattern, samples: int, free: bool) -> float:
    """Of `samples` sequences those that are one whole item."""
    vocabulary = Vocabulary(TEXT, {"own": pattern})
    grammar, model = Grammar(vocabulary, most=6), llama(TEXT, 64, 1)
    vocabulary.add_to(None, model)
    ids = model.generate(
        vocabulary.prompt([], "own").repeat(samples, 1),
        logits_processor=[] if free else [grammar],
        do_sample=True,
        max_new_tokens=grammar.ids("own"),
        eos_token_id=vocabulary.parts["own"].end,
        pad_token_id=vocabulary.pad,
    )
    return sum(whole(vocabulary, row) for row in ids) / samples


def whole(vocabulary: Vocabulary, ids: torch.Tensor) -> bool:
    try:
        lengths = [int(piece.lengths[0]) for piece in vocabulary.split(ids) if not isinstance(piece, list)]
    except TokenError:
        return False
    allowed = vocabulary.parts["own"].pattern.lengths
    return len(lengths) == 1 and (lengths[0] > 0 if allowed is None else lengths[0] in allowed)


@torch.no_grad()
def cost(rows: int, length: int, rounds: int) -> None:
    """Median times of a step with a cache and of the grammar, in turn, at 60,000 ids."""
    spec = TokenSpec("codec", "audio", (3490,) * 8, ("semantic",) + ("acoustic",) * 7, "time", sample_rate=16_000, hop=320)
    model = llama(60_000, 768, 6)
    print(f"{sum(weight.numel() for weight in model.parameters()) / 1e6:.0f} M parameters, {rows} rows, {length} ids before")
    for maker in (Delay, CoarseFirst):
        vocabulary = Vocabulary(32_000, {"speech": maker(spec)})
        grammar = Grammar(vocabulary)
        base = vocabulary.parts["speech"].base
        ids = torch.cat([vocabulary.prompt([], "speech"), torch.full((1, length), base)], dim=1).repeat(rows, 1)
        cache = model(ids[:, :-1], use_cache=True, logits_to_keep=1).past_key_values
        steps, grammars = [], []
        for _ in range(rounds):
            start = time.process_time()
            logits = model(ids[:, -1:], past_key_values=cache).logits[:, -1]
            middle = time.process_time()
            grammar(ids, logits)
            steps.append(middle - start)
            grammars.append(time.process_time() - middle)
            cache.crop(-1)
        step, own = statistics.median(steps), statistics.median(grammars)
        print(f"{maker.__name__}: a step {1000 * step:.1f} ms, the grammar {1000 * own:.2f} ms, {100 * own / step:.1f} %")


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=500, help="0 for none")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--ids", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=15, help="0 for none")
    args = parser.parse_args()
    torch.manual_seed(0)
    for maker, spec in CASES if args.samples else []:
        shares = [share(built(maker, spec), args.samples, free) for free in (False, True)]
        print(f"{maker}, {spec}: {100 * shares[0]:.1f} % are whole, without grammar {100 * shares[1]:.1f} %", flush=True)
    if args.rounds:
        cost(args.rows, args.ids, args.rounds)


if __name__ == "__main__":
    main()
