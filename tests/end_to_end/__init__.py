"""Tests with real processes and real sockets: the server by twistd, the client by python -m."""
