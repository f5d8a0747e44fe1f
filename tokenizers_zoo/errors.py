"""The three ways in which a caller can be wrong. Each message names the fix."""


class InputError(ValueError):
    """Audio or images that cannot be encoded: empty, not finite, wrong rank, unreadable file."""


class TokenError(ValueError):
    """Codes or `.tok` files that cannot be decoded: out of range, damaged, of another tokenizer."""


class WeightsError(ValueError):
    """Configs or weights that cannot be loaded: unknown class, missing or mis-shaped keys, pickles."""
