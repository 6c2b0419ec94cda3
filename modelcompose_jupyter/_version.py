"""The version of the package: here, so that its parts need not import the whole for it."""

__version__ = "0.2.0"
