"""People, robots, tokens and sessions over real databases and a real Redis."""
