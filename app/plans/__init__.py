"""Plans: images that are to be in a mirror before a date, fetched within the upstream's budget."""
