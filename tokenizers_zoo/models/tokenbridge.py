"""TokenBridge: a trained KL autoencoder whose latents are quantized afterwards (arXiv 2503.16430; YuqingWang1029/TokenBridge)."""

from ..tokenizer import VariationalTokenizer


class TokenBridge(VariationalTokenizer):
    """Convolutional encoder, posterior, convolutional decoder; without a quantizer the autoencoder alone (MAR's KL-16)."""
