"""A corpus tokenized once: Parquet shards that `tokenizers-zoo tokenize` writes and TokenDataset reads."""

from .cluster import Work, encode_on_ray
from .dataset import TokenDataset, TokenRow
from .local import encode_shards
from .plan import Done, Shard, alone, missing, plan
from .shard import Origin
from .stream import TokenStream

__all__ = [
    "Done",
    "Origin",
    "Shard",
    "TokenDataset",
    "TokenRow",
    "TokenStream",
    "Work",
    "alone",
    "encode_on_ray",
    "encode_shards",
    "missing",
    "plan",
]
