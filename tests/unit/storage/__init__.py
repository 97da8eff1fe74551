"""Bytes on the local disk and on their way to S3, without either store."""
