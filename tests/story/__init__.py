"""The whole story: people of a university in real browsers, its identity provider, and a Docker engine at the end."""
