"""Random Hugging Face models and classifiers of a few thousand weights, in folders: teachers that need no download."""

from functools import cache
from pathlib import Path

import timm
import torch
import torchvision
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel, AutoModelForCTC

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONVOLUTIONS = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}


def speech_model(folder: Path, kind: str) -> str:
    """A HuBERT (as base or "large"), wav2vec 2.0 or Whisper of width 16 in `folder`."""
    torch.manual_seed(0)
    if kind == "whisper":
        sizes = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
        sizes |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
        AutoModel.from_config(transformers.WhisperConfig(**sizes)).save_pretrained(folder)
        transformers.WhisperFeatureExtractor().save_pretrained(folder)
    else:
        config = transformers.Wav2Vec2Config if kind == "wav2vec2" else transformers.HubertConfig
        large = {"feat_extract_norm": "layer", "do_stable_layer_norm": True} if kind == "large" else {}
        AutoModel.from_config(config(**SMALL, **CONVOLUTIONS, **large)).save_pretrained(folder)
        transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return str(folder)


def recognizer(folder: Path) -> str:
    """A wav2vec 2.0 with random CTC letters."""
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(**SMALL, **CONVOLUTIONS, vocab_size=6)
    AutoModelForCTC.from_config(config).save_pretrained(folder)
    (folder / "vocab.json").write_text('{"<pad>": 0, "|": 1, "<unk>": 2, "a": 3, "b": 4, "c": 5}')
    words = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), pad_token="<pad>", unk_token="<unk>")
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    transformers.Wav2Vec2Processor(extractor, words).save_pretrained(folder)
    return str(folder)


def language_model(folder: Path) -> str:
    """A BERT of width 16 whose words are letters."""
    torch.manual_seed(0)
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
    ]
    words = Tokenizer(WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    words.normalizer, words.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    words.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    AutoModel.from_config(transformers.BertConfig(**SMALL, vocab_size=len(pieces))).save_pretrained(folder)
    return str(folder)


def vision_model(folder: Path) -> str:
    """A DINOv2 of width 16, for patches of 14."""
    torch.manual_seed(0)
    AutoModel.from_config(transformers.Dinov2Config(**SMALL, image_size=28, patch_size=14)).save_pretrained(folder)
    return str(folder)


def clip_model(folder: Path, image_size: int = 32) -> str:
    """An image tower of CLIP of width 16, for patches of 16, and its projection to 512 numbers."""
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(**SMALL, image_size=image_size, patch_size=16, projection_dim=512)
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return str(folder)


@cache
def classifier(folder: Path, name: str) -> str:
    """A state dict of random weights: of timm for EfficientNet, else of torchvision."""
    torch.manual_seed(0)
    network = timm.create_model(name) if "efficientnet" in name else torchvision.models.get_model(name)
    path = folder / f"{name}.safetensors"
    save_file({k: v for k, v in network.state_dict().items() if "efficientnet" not in name or "num_batches" not in k}, path)
    return str(path)
