"""The SSH door: ``ssh -p 8828 alice@host`` (RFC 4251 to 4254), with twisted.conch.

It encrypts, authenticates and opens one session channel; what happens in the channel is a *visit*,
which its host makes (``visits``). It must not know the chat's client or its terminal.
"""
