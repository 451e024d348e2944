"""Faces made by our own head model: people, images of them, and whole data sets."""
