"""Masks for faces: textures in a sheet of their own, worn on a surface in 3D, rendered."""
