"""The chat's own client, inside the server: for users who come by SSH, with nothing installed.

The session, the terminal and the pipe are those of ``client``; the session's connection is one in
memory, to the framed door. So the same rules and limits hold for these users as for all others. No
code here may touch the files of the server's machine for a user.
"""
