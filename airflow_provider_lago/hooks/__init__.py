"""Hooks: one connection to Lago's API."""
