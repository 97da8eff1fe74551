"""Serve the REST API ``/api/v2.0`` in Harbor's conventions, as `openapi.yaml` describes it."""
