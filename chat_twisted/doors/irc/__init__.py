"""The IRC door: IRC clients in the same chat, with modern IRC and IRCv3 as the reference.

Only the connection knows sockets. The chat's rules are the core's, as for every door.
"""
