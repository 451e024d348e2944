"""The version of this package, in one place; what is public is `openmfr.__all__`."""

__version__ = "0.1.0"
