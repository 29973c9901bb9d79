"""A chat for the command line: a Twisted service and its client."""

__version__ = "1.0.0"
