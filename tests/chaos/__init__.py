"""Random deliveries under random faults, and what must hold after each."""
