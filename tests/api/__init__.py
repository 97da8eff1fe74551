"""The distribution API over real HTTP, against real worker processes; a module per noun, a table per question."""
