"""Tokens for language models: a vocabulary that text and tokenizers share, patterns, a grammar, byte pair encoding; generators.

A model that speaks, with `folder` of any causal language model and `pairs` of text and sound:

    codec = tz.load("dm-codec-tiny")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    vocabulary = Vocabulary(len(tokenizer), {"speech": Delay(codec.spec)})
    vocabulary.add_to(tokenizer, model, {"speech": codec})
    examples = [vocabulary.sequence([tokenizer(text).input_ids, codec.encode(sound)]) for text, sound in pairs]
    optimizer = torch.optim.AdamW(model.parameters(), 3e-4)
    for batch in torch.utils.data.DataLoader(examples, 8, shuffle=True, collate_fn=vocabulary.collate):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    grammar = Grammar(vocabulary, most=100)
    how = {"do_sample": True, "eos_token_id": vocabulary.parts["speech"].end, "max_new_tokens": grammar.ids("speech")}
    prompt = vocabulary.prompt([tokenizer("hello").input_ids], "speech")
    ids = model.generate(prompt, logits_processor=[grammar], **how)
    codec.decode(vocabulary.split(ids[0])[1]).save("hello.wav")
"""

from .alphabet import Alphabet
from .compress import AcousticBPE
from .generators import GENERATORS, Generator, MaskedAutoregressive, MaskGIT, create_generator, load_generator
from .grammar import Grammar
from .patterns import CoarseFirst, Delay, Flatten, Nested, Parallel, Pattern, Rows, Scales, SemanticFirst
from .vocabulary import Example, Vocabulary

__all__ = [
    "GENERATORS",
    "AcousticBPE",
    "Alphabet",
    "CoarseFirst",
    "Delay",
    "Example",
    "Flatten",
    "Generator",
    "Grammar",
    "MaskGIT",
    "MaskedAutoregressive",
    "Nested",
    "Parallel",
    "Pattern",
    "Rows",
    "Scales",
    "SemanticFirst",
    "Vocabulary",
    "create_generator",
    "load_generator",
]
