"""Formats of face data sets other than our own store."""
