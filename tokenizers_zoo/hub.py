"""The Hugging Face Hub where there is no network."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_retries() -> Iterator[None]:
    """Where the Hub cannot be reached, its client looks into its cache alone: no minute of retries a file."""
    try:
        from huggingface_hub import constants, get_session
    except ImportError:  # then nothing is downloaded from it
        yield
        return
    before = constants.HF_HUB_OFFLINE
    try:
        if not before:
            get_session().head(constants.ENDPOINT, timeout=5)
    except Exception:  # each of the Hub's HTTP clients has its own
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
