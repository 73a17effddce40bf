"""An operator's settings run from a shell, without a scheduler. Nothing but ``__main__`` imports this package."""
