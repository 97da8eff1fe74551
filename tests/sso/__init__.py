"""Logging in with the university: a real identity provider, and forged answers of one."""
