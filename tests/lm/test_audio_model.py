"""Transformers' speech models and processors with our audio tokenizers."""

from pathlib import Path

import pytest
import torch
import transformers
from torch.testing import assert_close

import tokenizers_zoo as tz
from tokenizers_zoo.lm.audio_model import AudioTokenizerModel

WORDS = ["there is an example", "and another"]


@pytest.fixture(scope="module")
def codec() -> AudioTokenizerModel:
    return AudioTokenizerModel.from_pretrained("dm-codec-tiny")


def test_codes_and_sound_are_those_of_the_tokenizer(codec: AudioTokenizerModel, speech: Path) -> None:
    clip = tz.Audio.load(speech).resample(16000)
    tokens = codec.tokenizer.encode(clip)
    codes = codec.encode(clip.waveform).audio_codes
    assert torch.equal(codes, tokens.codes.long())
    decoded = codec.tokenizer.decode(tokens).waveform[:, 0]
    assert torch.equal(codec.decode(codes).audio_values[:, : decoded.shape[-1]], decoded)
    first = codec.tokenizer.decode(tokens.codebooks(2)).waveform[:, 0]
    assert torch.equal(codec.decode(codes[:, :2]).audio_values[:, : first.shape[-1]], first)


def test_padding_is_not_heard(codec: AudioTokenizerModel, speech: Path) -> None:
    clip = tz.Audio.load(speech).resample(16000).waveform[0]
    two = torch.stack([clip[:, :16000], torch.nn.functional.pad(clip[:, :8000], (0, 8000), value=0.5)])
    mask = torch.arange(16000) < torch.tensor([[16000], [8000]])
    codes = codec.encode(two, mask).audio_codes
    assert torch.equal(codes[1, :, :25], codec.encode(clip[None, :, :8000]).audio_codes[0])
    assert not codes[1, :, 25:].any()


def test_auto_classes_open_a_folder(codec: AudioTokenizerModel, tmp_path: Path) -> None:
    codec.save_pretrained(tmp_path)
    found = transformers.AutoModelForAudioTokenization.from_pretrained(tmp_path)
    assert isinstance(found, AudioTokenizerModel)
    state = codec.tokenizer.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in found.tokenizer.state_dict().items())
    sizes = found.config
    assert (sizes.sampling_rate, sizes.hop_length, sizes.n_codebooks, sizes.codebook_size) == (16000, 320, 8, 1024)


def test_a_processor_feeds_a_speech_model_and_decodes_what_it_says(
    codec: AudioTokenizerModel, speech: Path, tmp_path: Path
) -> None:
    """Dia's: delays, begin, end and padding are its own; its eight codebooks are ours."""
    delays, marks = list(range(8)), {"eos_token_id": 1024, "pad_token_id": 1025, "bos_token_id": 1026}
    extractor = transformers.DacFeatureExtractor(sampling_rate=16000, hop_length=codec.config.hop_length)
    processor = transformers.DiaProcessor(extractor, transformers.DiaTokenizer(), codec)
    how = {"delay_pattern": delays, "sampling_rate": 16000, "text_kwargs": {"truncation": True}, **marks}
    clip = tz.Audio.load(speech).resample(16000).waveform[0, 0, :16000]
    batch = processor(WORDS, [clip.numpy(), clip[:8000].numpy()], generation=False, output_labels=True, **how)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 16}
    own = {"cross_head_dim": 16, "cross_num_attention_heads": 2, "cross_num_key_value_heads": 2, "cross_hidden_size": 32}
    decoder = {**sizes, **own, "num_key_value_heads": 2, "vocab_size": 1028, "num_channels": 8}
    config = transformers.DiaConfig(
        encoder_config={**sizes, "num_key_value_heads": 2}, decoder_config=decoder, delay_pattern=delays, **marks
    )
    model = transformers.DiaForConditionalGeneration(config).eval()
    assert torch.isfinite(model(**batch).loss)

    prompt = processor(WORDS[:1], [clip.numpy()], generation=True, **how)
    length = processor.get_audio_prompt_len(prompt["decoder_attention_mask"], **how)
    assert length == 1 + 50
    ids = processor(WORDS[:1], [clip.numpy()], generation=False, **how)["decoder_input_ids"]
    heard = processor.batch_decode(ids, **how)[0]
    assert_close(heard, codec.decode(codec.encode(clip[None, None]).audio_codes).audio_values[0])


def test_image_tokenizers_are_refused() -> None:
    with pytest.raises(tz.InputError, match=r"titok-tiny is no audio tokenizer, TiTok"):
        AudioTokenizerModel.from_pretrained("titok-tiny")
