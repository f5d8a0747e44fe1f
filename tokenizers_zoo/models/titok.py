"""TiTok: an image as a short 1D sequence (arXiv 2406.07550; bytedance/1d-tokenizer)."""

from ..tokenizer import VariationalTokenizer


class TiTok(VariationalTokenizer):
    """ViT encoder, quantizer, ViT decoder; the KL variants have a posterior and no quantizer."""
