"""Opinions that listeners would have of the decoded side alone, predicted by networks."""

import sys
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ...frozen import stacked
from ...manifest import Row
from ...teachers.base import RATE
from ..base import Item, need
from ..batches import Batched
from .signals import long_enough


class MOS(Batched):
    """A predicted mean opinion score of the decoded side alone, 1 to 5, of clips of at least half a second."""

    key: str

    def check(self, decoded: Tensor, row: Row) -> None:
        """Raises InputError for less than half a second."""
        long_enough(decoded, 0.5, type(self).__name__, row)

    def silent(self, original: Any, row: Row) -> Item:
        """The lowest score; the networks give silence about 2."""
        return {self.key: 1.0}


class DistillMOS(MOS):
    """Predicted quality without a reference, 1 to 5, by Microsoft's distillmos (arXiv 2502.05356).

    It hears 7.68 s; longer clips are the mean of pieces a second apart, shorter ones are filled up with silence, which costs
    them: a second cut from clean speech has 3.4 where the clip has 4.5. Compare clips of like lengths alone.
    """

    key = "distillmos"
    size, hop = 122880, RATE  # samples of a piece and between two, as in the package

    def __init__(self) -> None:
        with redirect_stdout(sys.stderr):  # it says which weights it takes; a table may go where the output goes
            self.network = need("distillmos", "eval-speech").ConvTransformerSQAModel(segmenting_in_forward=False).eval()

    def measure(self, prepared: list[Any], decoded: list[Tensor], rows: list[Row]) -> list[Item]:
        """The mean over the pieces of each."""
        pieces = [self.pieces(wave) for wave in decoded]
        scores = iter(stacked(lambda x: self.network(x.to(self.device)).flatten().tolist(), [x for one in pieces for x in one]))
        return [{self.key: float(np.mean([next(scores) for _ in one]))} for one in pieces]

    def pieces(self, wave: Tensor) -> list[Tensor]:
        """Pieces of 7.68 s from the first to the last sample, at most a second apart."""
        over = max(0, len(wave) - self.size)
        starts = np.linspace(0, 1, -(-over // self.hop) + 1) * over
        return [F.pad(wave, (0, max(0, self.size - len(wave))))[int(start) : int(start) + self.size] for start in starts]


class DNSMOS(MOS):
    """Predicted overall quality without a reference, ITU-T P.835, by speechmos. It hears 9 s; shorter clips are repeated."""

    key = "dnsmos"

    def __init__(self) -> None:
        self.run = need("speechmos.dnsmos", "eval-speech").run

    def measure(self, prepared: list[Any], decoded: list[Tensor], rows: list[Row]) -> list[Item]:
        """1 to 5, one by one, on the CPU."""
        return [{self.key: float(self.run(wave.clamp(-1, 1).numpy(), RATE)["ovrl_mos"])} for wave in decoded]
