"""Audio and Images: what every tokenizer takes and gives; reading and writing files."""

from .audio import AUDIO_SUFFIXES, Audio, AudioSource, as_audio
from .imagefile import IMAGE_SUFFIXES
from .images import Images, ImageSource, as_images

SUFFIXES = {"audio": AUDIO_SUFFIXES, "image": IMAGE_SUFFIXES}

__all__ = ["SUFFIXES", "Audio", "AudioSource", "ImageSource", "Images", "as_audio", "as_images"]
