"""The OCI distribution API, one module per noun of the specification, one route table."""
