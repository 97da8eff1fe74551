"""What a request costs does not grow with what the whole registry holds (issue 10, decision 0032)."""
