"""The users' guide: its pages, its pictures, and its commands run by a real Docker engine."""
