"""The test suites, and what they share: images, the strict upstream and the real parts."""
