"""Small mechanisms that all packages use. Each is written here once and knows nothing of its users."""
