"""The clients people use, each as it is, against the service of two workers in front of the strict upstream.

table.py has one row per client; test_each.py asks the same of every row. What only some clients can do, and the ways
into a mirror that they know, stand in the other modules.
"""
