"""Redis, shared by all workers: whatever is here may be gone at any moment, and a Redis that is away is a miss."""

from .client import AWAY, PATIENCE, Away, Cache
from .lease import Claim, Lease

__all__ = ["AWAY", "PATIENCE", "Away", "Cache", "Claim", "Lease"]
