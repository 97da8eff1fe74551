"""Small mechanisms that all rooms use: each stands here once, and knows nothing of what it is used for."""
