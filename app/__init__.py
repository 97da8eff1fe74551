"""A container registry and pull-through cache for a university."""
