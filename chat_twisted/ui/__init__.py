"""The user interface: what a terminal shows and what can be typed, without a terminal and without
the wire protocol. It must not know the client or the server.
"""
