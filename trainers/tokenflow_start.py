"""What a TokenFlow's training starts from: fresh weights, and CLIP's image tower.

    python trainers/tokenflow_start.py openai/clip-vit-base-patch16 -o FOLDER

CLIP comes by its name on the Hugging Face Hub, or from a local folder.
"""

import argparse
from pathlib import Path

import tokenizers_zoo as tz
from tokenizers_zoo.official import Official
from tokenizers_zoo.teachers.clip import CLIPNetwork

NAMES = (
    (r"^encoder\.semantic\.patch_embed\.", "embeddings.patch_embedding."),
    (r"^encoder\.semantic\.class_token$", "embeddings.class_embedding"),
    (r"^encoder\.semantic\.position_embed$", "embeddings.position_embedding.weight"),
    (r"^encoder\.semantic\.norm_in\.", "pre_layrnorm."),
    (r"^encoder\.semantic\.norm_out\.", "post_layernorm."),
    (r"^encoder\.semantic\.blocks\.", "encoder.layers."),
    (r"\.attention_norm\.", ".layer_norm1."),
    (r"\.mlp_norm\.", ".layer_norm2."),
    (r"\.attention\.in_proj\.", ".self_attn.{q,k,v}_proj."),
    (r"\.attention\.out_proj\.", ".self_attn.out_proj."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.2\.", ".mlp.fc2."),
)
CLIP = Official(NAMES, "MIT", (), ignored=r"position_ids$", fresh=r"^(?!encoder\.semantic\.)")


def started(clip: str, tokenizer: tz.Tokenizer) -> tz.Tokenizer:
    """`tokenizer` with the tower of a CLIP, a name or a folder. Raises WeightsError for one of another size."""
    state = CLIPNetwork(clip).tower.state_dict()
    tokenizer.load_state_dict(tokenizer.state_dict() | CLIP.convert(state, tokenizer))
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--variant", default="tokenflow-clipb")
    args = parser.parse_args()
    started(args.clip, tz.create(args.variant)).save_pretrained(args.output)


if __name__ == "__main__":
    main()
