"""Delivering usage events: many in a request, each settled by itself."""
