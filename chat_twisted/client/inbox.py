"""The messages that a session has received over all its connections.

No message is passed on twice, and none that the session has sent itself. Messages may be left to
the server, which sends them again on the next connection. This module must not know the connection.
"""

from __future__ import annotations

from chat_twisted.client.own_messages import OwnMessages
from chat_twisted.core.message import fold
from chat_twisted.ui.session import Listener
from chat_twisted.ui.values import Received


class Inbox:
    """Passes received messages on to a listener.

    :ivar own: the messages of this session.
    :ivar last: the number of the last received message, or 0.
    :ivar last_sender: the sender of that message.
    :ivar has_direct: whether a direct message was received since this was set to False.
    :ivar leaves_messages: whether messages are left to the server.
    :ivar has_left_messages: whether messages were left on this connection.
    """

    def __init__(self, listener: Listener) -> None:
        self.own = OwnMessages(listener.received)
        self.last = 0
        self.last_sender = ""
        self.has_direct = False
        self.leaves_messages = False
        self.has_left_messages = False
        self._listener = listener

    def received(self, message: Received, user: str) -> None:
        """Take a message that was received as ``user``, unless it is an old one or is left to the
        server, as all after the first left one are.
        """
        if message.number <= self.last:
            return
        self.has_left_messages = self.has_left_messages or self.leaves_messages
        if self.has_left_messages:
            return
        self.last, self.last_sender = message.number, message.sender
        self.has_direct |= fold(message.to) == fold(user)
        if fold(message.sender) != fold(user):
            self._listener.received(message)
        else:
            self.own.hold(message)
        self.own.received(self.last)

    def went_back(self, newest: int) -> bool:
        """Forget the numbers after the newest message of the server, if it has lost messages;
        return whether it has.
        """
        if newest >= max(self.last, self.own.newest):
            return False
        self.own.went_back(newest)
        self.last = min(self.last, newest)
        return True
