"""The OCI distribution API: one module per noun of the specification, and one route table."""
