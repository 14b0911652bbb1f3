"""srgui: image super-resolution that a person can tune."""

__version__ = "0.1.0"
