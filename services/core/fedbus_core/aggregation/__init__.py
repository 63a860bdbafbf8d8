"""Aggregation: from updates to the next model, the same bytes in any order and on any machine."""
