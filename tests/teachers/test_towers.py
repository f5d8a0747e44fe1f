"""Teachers that give states and a pooled output: SigLIP's tower as transformers runs it, and a map as tokens."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from tokenizers_zoo.errors import WeightsError
from tokenizers_zoo.losses.alignment import SquaredCosine, TowerDistillation
from tokenizers_zoo.teachers.siglip import SigLIPTeacher
from tokenizers_zoo.teachers.vision import TokenTeacher, VisionTeacher

SIZES = {"image_size": 30, "patch_size": 14, "width": 32, "depth": 3, "heads": 4, "hidden": 48}


@pytest.fixture(scope="module")
def published() -> SiglipVisionModel:
    """Two pixels at the right and at the bottom fill no patch."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    model = SiglipVisionModel(SiglipVisionConfig(**sizes, image_size=30, patch_size=14)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


@torch.no_grad()
def test_siglip_is_that_of_transformers(published: SiglipVisionModel, tmp_path: Path) -> None:
    prefix = "" if any(key.startswith("vision_model.") for key in published.state_dict()) else "vision_model."
    state = {prefix + key: value.contiguous() for key, value in published.state_dict().items()}
    save_file(state | {"logit_scale": torch.ones(1), "text_model.head.bias": torch.ones(3)}, tmp_path / "siglip.safetensors")
    teacher = SigLIPTeacher(str(tmp_path / "siglip.safetensors"), **SIZES)
    images = torch.rand(2, 3, 30, 30)
    states, pooled = teacher.train()(images)
    wanted = published(2 * images - 1, output_hidden_states=True)
    torch.testing.assert_close(states, wanted.hidden_states[-2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pooled, wanted.pooler_output, rtol=1e-4, atol=1e-5)
    assert not any(p.requires_grad for p in teacher.parameters())
    with pytest.raises(WeightsError, match="a SigLIP of 4 layers of 32"):
        SigLIPTeacher(str(tmp_path / "siglip.safetensors"), **SIZES | {"depth": 4})


def test_a_map_as_tokens_and_their_mean() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 4, 4))
    teacher = TokenTeacher(VisionTeacher(network, "0"), side=2)
    images = torch.rand(2, 3, 16, 16)
    tokens, pooled = teacher(images)
    found = teacher.teacher(images)
    assert tokens.shape == (2, 4, 5)
    torch.testing.assert_close(pooled, found.flatten(2).mean(2))
    flat = TokenTeacher(VisionTeacher(network, "0"), side=4)(images)[0]
    torch.testing.assert_close(flat[:, 5], found[:, :, 1, 1])  # row by row
    near = found.mean((2, 3))
    assert SquaredCosine()(tokens.mean(1), near) < SquaredCosine()(-tokens.mean(1), near)


def test_what_is_equal_to_the_teacher_costs_least() -> None:
    teacher, images = SigLIPTeacher(None, **SIZES), torch.rand(2, 3, 30, 30)
    states, pooled = teacher(images)
    loss = TowerDistillation(teacher, states=5.0, pooled=1.0)
    torch.testing.assert_close(loss(states, pooled, images), torch.tensor(-6.0))
    assert loss(states + 0.1, pooled, images) > -6
    assert loss(states, 2 * pooled, images) > -6
