"""Searching for networks: what there is to choose, what it costs, and how to choose."""
