"""The tests. Run by pytest and by trial alike; tests/end_to_end has those with real processes."""
