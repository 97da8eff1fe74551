"""The pages: handlers, templates, and a real browser that clicks through all of it."""
