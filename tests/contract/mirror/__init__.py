"""The budget and fills with a real Redis, by several processes of one host."""
