"""The kit: each small mechanism by itself."""
