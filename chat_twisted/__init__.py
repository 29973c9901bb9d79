"""A chat for the command line: a Twisted service and its client."""

__version__ = "0.1.0"
