"""Delivering anything else: one conversation of calls for each record, or each group of records."""
