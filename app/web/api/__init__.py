"""The REST API ``/api/v2.0`` in Harbor's conventions; `openapi.yaml` says what there is."""
