"""A TokenFlow starts from CLIP's image tower, and CLIP's patches are its teacher."""

from pathlib import Path

import pytest
import torch
import transformers

import tokenizers_zoo as tz
from models import clip_model
from tokenizers_zoo.teachers.clip import CLIPNetwork
from tokenizers_zoo.teachers.vision import VisionTeacher
from tokenizers_zoo.zoo import share

SIZES = {"width": 16, "depth": 2, "heads": 2}
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


@pytest.fixture
def clip(tmp_path: Path) -> str:
    return clip_model(tmp_path / "clip", 48)


def test_the_teacher_is_clip_itself(clip: str) -> None:
    images = torch.rand(2, 3, 48, 48)
    model = transformers.CLIPVisionModelWithProjection.from_pretrained(clip)
    seen = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        hidden = model.vision_model(seen, output_hidden_states=True).hidden_states[-1]
        wanted = model.visual_projection(model.vision_model.post_layernorm(hidden[:, 1:]))
        pooled = model(seen).image_embeds
        network = CLIPNetwork(clip)
        torch.testing.assert_close(network(seen)[:, 0], pooled)  # the class token's
    found = VisionTeacher(network, "patches", None, MEAN, STD)(images)
    torch.testing.assert_close(found, wanted.transpose(1, 2).unflatten(2, (3, 3)))


def test_the_start_holds_clips_tower(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(share("trainers")))
    from tokenflow_start import started

    tower = transformers.CLIPVisionModelWithProjection.from_pretrained(clip).vision_model
    options = {"image_size": 48, "patch_size": 16, "width": 16, "depth": 2, "heads": 2}
    tokenizer = tz.create("tokenflow-tiny")
    tokenizer.encoder.semantic = type(tokenizer.encoder.semantic)(**options)
    for block in tokenizer.encoder.semantic.blocks:  # CLIP's perceptrons here are twice as wide, not four times
        block.mlp = torch.nn.Sequential(torch.nn.Linear(16, 32), block.mlp[1], torch.nn.Linear(32, 16))
    trunk = started(clip, tokenizer).encoder.semantic
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        hidden = tower(2 * images - 1, output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(trunk(images), tower.post_layernorm(hidden)[:, 1:])
    with pytest.raises(tz.WeightsError, match="wrong shape"):
        started(clip, tz.create("tokenflow-tiny"))
