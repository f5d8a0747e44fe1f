"""Audio and Images: what every tokenizer takes and gives; reading and writing files."""

from .audio import AUDIO_SUFFIXES, Audio, AudioSource, as_audio, read_audio
from .audiofile import AudioFile
from .imagefile import IMAGE_SUFFIXES
from .images import Images, ImageSource, as_images
from .waves import as_wave

SUFFIXES = {"audio": AUDIO_SUFFIXES, "image": IMAGE_SUFFIXES}

__all__ = [
    "SUFFIXES",
    "Audio",
    "AudioFile",
    "AudioSource",
    "ImageSource",
    "Images",
    "as_audio",
    "as_images",
    "as_wave",
    "read_audio",
]
