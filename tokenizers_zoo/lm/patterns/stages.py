"""Whole items one lane, or one group of lanes, after the other: flatten, coarse-first, semantic-first."""

from collections.abc import Sequence

from torch import Tensor

from .base import Pattern


class Stages(Pattern):
    """Stages of lanes, each written position by position, a mark between two."""

    @property
    def stages(self) -> Sequence[Sequence[int]]:
        """The lanes of each stage."""
        return [range(self.lanes)]

    def count(self, length: Tensor) -> Tensor:
        """Every code once, and a mark between stages."""
        return length * self.lanes + len(self.stages) - 1

    def slot(self, index: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """The stage in which `index` falls, or the mark before the next."""
        stages = self.stages
        order = index.new_tensor([lane for lanes in stages for lane in lanes])
        place, before = index - 0 * length, 0  # counted from where the stage begins
        kind, position = place * 0 + self.lanes, place * 0 - 1
        for lanes in stages:
            here = (place >= 0) & (place < length * len(lanes))
            kind = order[before + place % len(lanes)].where(here, kind)
            position = (place // len(lanes)).where(here, position)
            place, before = place - length * len(lanes) - 1, before + len(lanes)
        return kind, position


class Flatten(Stages):
    """All codes of a position, then those of the next: time-major, the plainest.

    position  0  0  0  1  1  1  2  2  2
    id        a0 b0 c0 a1 b1 c1 a2 b2 c2
    """

    layouts: tuple[str, ...] = ("time", "sequence", "grid", "scales")


class CoarseFirst(Stages):
    """The first codebook of the whole item, then the second, ... (AudioLM's coarse to fine); | is a mark.

    position  0  1  2     0  1  2     0  1  2
    id        a0 a1 a2 |  b0 b1 b2 |  c0 c1 c2
    """

    layouts: tuple[str, ...] = ("time", "sequence", "grid")

    @property
    def stages(self) -> Sequence[Sequence[int]]:
        """Each lane alone."""
        return [[lane] for lane in range(self.lanes)]


class SemanticFirst(Stages):
    """The codebooks of the first role for the whole item, then those of the next (semantic, then acoustic); | is a mark.

    position  0  1  2     0  0  1  1  2  2
    id        a0 a1 a2 |  b0 c0 b1 c1 b2 c2
    """

    layouts: tuple[str, ...] = ("time", "sequence", "grid")

    def refuses(self) -> str:
        """One role alone has nothing to come first."""
        one = f"all its codebooks have the role {self.spec.roles[0]!r}; Flatten does the same"
        return super().refuses() or (one if len(set(self.alphabet.roles)) < 2 else "")

    @property
    def stages(self) -> Sequence[Sequence[int]]:
        """Lanes by role, in the order in which roles appear."""
        roles = self.alphabet.roles
        return [[i for i, own in enumerate(roles) if own == role] for role in dict.fromkeys(roles)]
