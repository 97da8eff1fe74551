"""Pull-through: what an upstream has, fetched once, kept as long as there is room, and never past its limit."""
