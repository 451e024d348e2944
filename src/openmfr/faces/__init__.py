"""Faces in photographs: read, detect, align; and the rasteriser that draws them. No torch."""
