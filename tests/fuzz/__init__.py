"""Inputs from outside, made up by hypothesis: each gives a value, or one of the refusals of the room that reads it.

`make test` tries some inputs for each target, always the same. `make fuzz` tries as many new ones as FUZZ_EXAMPLES
says. A finding becomes an ordinary test of its room, and an ``@example`` here if only luck finds it again.
"""
