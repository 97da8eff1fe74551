"""The REST API, by its document, by Harbor's client and by everybody who may or may not."""
