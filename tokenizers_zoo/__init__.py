"""Speech and images as discrete tokens: published tokenizers behind one encode/decode API."""

import gc

_collecting = gc.isenabled()
gc.disable()  # what imports make stays; to look through it again and again would take a fifth of a second
try:
    from .assembly import register
    from .corpus import TokenDataset
    from .errors import InputError, TokenError, WeightsError
    from .many import encode_many
    from .media import Audio, Images
    from .official import load_official
    from .tokenizer import AudioTokenizer, ImageTokenizer, Reconstruction, Tokenizer
    from .tokens import Tokens, TokenSpec
    from .zoo import create, list_tokenizers, load
finally:
    if _collecting:
        gc.enable()

__version__ = "0.1.0"
__all__ = [
    "Audio",
    "AudioTokenizer",
    "ImageTokenizer",
    "Images",
    "InputError",
    "Reconstruction",
    "TokenDataset",
    "TokenError",
    "TokenSpec",
    "Tokenizer",
    "Tokens",
    "WeightsError",
    "create",
    "encode_many",
    "list_tokenizers",
    "load",
    "load_official",
    "register",
]
