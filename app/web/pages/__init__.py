"""The pages people see in a browser."""
