"""The client: ``python -m chat_twisted.client USER HOST``. It knows nothing of the server."""
