"""The OCI's own conformance suite, a Go program, against the service in its several shapes."""
