"""Redis, shared by all workers. Any key may vanish at any moment, and a Redis that is down counts as a cache miss."""

from .client import AWAY, PATIENCE, Away, Cache
from .lease import Claim, Lease
from .versions import Versions

__all__ = ["AWAY", "PATIENCE", "Away", "Cache", "Claim", "Lease", "Versions"]
