"""One suite over each pair of implementations: SQLite and PostgreSQL, filesystem and S3."""
