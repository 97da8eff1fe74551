"""The mirror against an upstream on loopback: faults, disconnects, many clients at once."""
