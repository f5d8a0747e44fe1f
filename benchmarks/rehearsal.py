"""A recipe without its downloads: networks of random weights in their published sizes, data from tests/data."""

from pathlib import Path
from typing import Any

import subjects
import timm
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import tokenizers_zoo as tz

ROOT = Path(__file__).resolve().parents[1]
CLIPS, SECONDS, PHOTOS = 24, 4.0, 24
TEXT = "the family had long been settled in sussex"


def local(recipe: dict[str, Any], folder: Path, batch: int | None = None) -> dict[str, Any]:
    """The recipe with everything it names on disk made in `folder`, and, where given, another batch size."""
    recipe["model"]["tokenizer"] = str((ROOT / "trainers" / recipe["model"]["tokenizer"]).resolve())
    _fill(recipe, folder)
    data = recipe["data"]["init_args"]
    data["workers"] = 0
    if batch:
        data["batch_size"] = batch
    return recipe


def _fill(value: Any, folder: Path) -> None:
    for part in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        _fill(part, folder)
    if not isinstance(value, dict) or "class_path" not in value:
        return
    args = value.setdefault("init_args", {})
    match value["class_path"]:
        case "SpeechTeacher" | "WhisperEncoder":
            args["path"] = whisper(folder / "whisper")
        case "TextTeacher":
            args["path"] = minilm(folder / "minilm")
        case "TimmNetwork":
            args["weights"] = network(args["name"], folder / f"{args['name']}.safetensors")
        case "AudioData":
            args |= {"data": speech(folder / "clips", args["sample_rate"]), "cache": str(folder / "features")}
        case "ImageData":
            args["data"] = photos(folder / "photos", args["image_size"])


def whisper(folder: Path) -> str:
    """An encoder of tiny.en's size."""
    if not folder.exists():
        sizes = {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536}
        transformers.WhisperModel(transformers.WhisperConfig(**sizes, decoder_layers=1)).save_pretrained(folder)
        transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return str(folder)


def minilm(folder: Path) -> str:
    """A language model of all-MiniLM-L6-v2's size whose words are letters."""
    if not folder.exists():
        letters = "abcdefghijklmnopqrstuvwxyz"
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        pieces = [*special, *letters, *(f"##{letter}" for letter in letters)]
        words = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
        words.normalizer, words.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        words.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
        names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
        transformers.PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(folder)
        sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
        transformers.BertModel(transformers.BertConfig(**sizes, vocab_size=len(pieces))).save_pretrained(folder)
    return str(folder)


def network(name: str, path: Path) -> str:
    """A classifier of timm."""
    if not path.exists():
        save_file(timm.create_model(name).state_dict(), path)
    return str(path)


def speech(folder: Path, rate: int) -> str:
    """A manifest of clips with a text each."""
    if not folder.exists():
        lines = ["path,text"]
        for number, wave in enumerate(subjects.speech(CLIPS, SECONDS, rate)):
            tz.Audio(wave[None], rate).save(folder / f"{number}.wav")
            lines.append(f"{number}.wav,{TEXT}")
        (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "clips.csv")


def photos(folder: Path, size: int) -> str:
    """A folder of squares."""
    if not folder.exists():
        for number, pixels in enumerate(subjects.images(PHOTOS, size)):
            tz.Images(pixels[None]).save(folder / f"{number}.png")
    return str(folder)
