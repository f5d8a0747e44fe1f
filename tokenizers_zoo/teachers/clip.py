"""CLIP's image tower as a teacher of patches."""

from torch import Tensor, nn

from .base import open_model


class CLIPNetwork(nn.Module):
    """An image tower of CLIP, e.g. openai/clip-vit-base-patch16, by its name on the Hub or a local folder.

    Its layer `patches` gives all tokens in the space that CLIP shares with text, by the last norm and the projection, which CLIP
    itself applies to the class token alone (TokenFlow's teacher; ByteVisionLab/TokenFlow, tokenizer/vq_loss.py).
    """

    def __init__(self, path: str):
        super().__init__()
        from transformers import CLIPVisionModelWithProjection

        model = open_model(CLIPVisionModelWithProjection, path)
        self.tower = model.vision_model
        self.patches = nn.Sequential(self.tower.post_layernorm, model.visual_projection)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> (B, 1 + N, D), the class token first."""
        return self.patches(self.tower(pixel_values=x).last_hidden_state)
