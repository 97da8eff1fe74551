"""The wire's vocabulary: pure values of the OCI specifications, no I/O and no state."""
