"""The HTTP edge: handlers parse a request, call a service and write the answer; decisions belong to the services."""
