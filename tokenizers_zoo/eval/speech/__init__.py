"""Metrics of decoded speech. All take clips (S,) at 16 kHz, both sides equally long.

Too short a clip has no value and says how long it has to be; of long ones all is heard, in pieces where a judge takes no more.
"""

from .opinion import DNSMOS, DistillMOS
from .recognition import WER, SpeakerSimilarity
from .signals import PESQ, SISDR, STOI, F0Correlation, MelDistance

__all__ = ["DNSMOS", "PESQ", "SISDR", "STOI", "WER", "DistillMOS", "F0Correlation", "MelDistance", "SpeakerSimilarity"]
