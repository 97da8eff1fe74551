"""The vocabulary of the OCI specifications, as pure values without I/O or state."""
