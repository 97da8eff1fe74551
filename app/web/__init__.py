"""The edge: HTTP in, services called, HTTP out; nothing here decides."""
