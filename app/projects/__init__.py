"""Projects: what they are called, whether they are public, and whether they host or mirror."""
