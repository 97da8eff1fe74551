"""Manage projects, their members, labels, quotas and the audit log."""
