"""Visitors and what they wrote."""
