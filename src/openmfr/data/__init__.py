"""Stores of face images, label tables over them, and the ways in and out."""
