"""A run so small that its steps can be written out, for tests of steps. `Plain`, `Pooled` and `Painted` must be registered."""

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from toys import Painted, Plain, Pooled

import tokenizers_zoo as tz
from tokenizers_zoo.discriminators.base import Judgement
from tokenizers_zoo.losses.adversarial import Hinge
from tokenizers_zoo.quantizers import EMAVectorQuantizer
from tokenizers_zoo.trainers.data import ResumableLoader, ResumableSampler
from tokenizers_zoo.trainers.module import TokenizerModule
from tokenizers_zoo.trainers.objective import Adversary, Term
from tokenizers_zoo.trainers.schedule import WarmupCosine

STEPS, ACCUMULATE, START, CLIP, DECAY = 5, 2, 1, 0.05, 0.8
LECAM, WEIGHT, MATCHING, COMMITMENT = 0.3, 0.7, 1.5, 0.4
SIDES = {"generator": (0.3, 0.9), "discriminator": (0.1, 0.5)}  # rate and momentum


class Judge(nn.Module):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 1, 2, bias=False)  # the hinge teaches a bias nothing here

    def forward(self, x: Tensor) -> list[Judgement]:
        """One judgement."""
        features = nn.functional.leaky_relu(self.first(x))
        return [Judgement(self.last(features), [features])]


def tokenizer() -> tz.Tokenizer:
    """Two linear maps, and a codebook that has started."""
    encoder, quantizer = Pooled(), EMAVectorQuantizer(4, 3, decay=0.7, revive_below=0.0)
    quantizer.learner.initted.fill_(True)
    quantizer.learner.embed.copy_(encoder(torch.rand(1, 3, 16, 16))[:, :4].detach())
    quantizer.learner.embed_avg.copy_(quantizer.learner.embed)
    return Plain(encoder, quantizer, Painted())


def optimizer(side: str) -> Any:
    """Descent with momentum, which sees the scale of a gradient as Adam does not."""
    rate, momentum = SIDES[side]
    return lambda parameters: torch.optim.SGD(parameters, rate, momentum, weight_decay=0.1)


def module(**options: Any) -> TokenizerModule:
    """All that a step can have: two sides, clipping, schedules, an average, accumulation, LeCam."""
    torch.manual_seed(0)
    objective = {"squared": Term(nn.MSELoss(), 2.0), "commitment": Term(nn.Identity(), COMMITMENT, ("commitment",))}
    adversary = Adversary(Judge(), Hinge(), WEIGHT, feature_matching=MATCHING, start=START, lecam=LECAM)
    options = {"ema": DECAY, "clip": CLIP, "accumulate": ACCUMULATE, "adversary": adversary} | options
    return TokenizerModule(
        "toy",
        tokenizer(),
        objective,
        optimizer("generator"),
        lambda optimizer: WarmupCosine(optimizer, 6, warmup=2, final=0.1),
        adversary_optimizer=optimizer("discriminator"),
        **options,
    )


class Photos(lightning.LightningDataModule):
    """Three batches an epoch, always the same. size: of a batch, of all processes together."""

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.size = size
        self.items = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))

    def train_dataloader(self) -> DataLoader[Any]:
        """Epoch after epoch."""
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler = ResumableSampler(3 * self.size, rank, world)
        return ResumableLoader(self, sampler=sampler, batch_size=self.size // world)

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        return {"media": self.items[n % 6]}

    val_dataloader = train_dataloader
