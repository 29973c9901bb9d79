"""What becomes of the commands of a node: outcomes are delivered, and askers get their answers.

The ledger calls ``Outcomes`` when commands are committed or have failed. Messages and events go to
the sessions that they reach (``delivery``), results to the sessions that asked. This module must
not know how a command is proposed, or the rules of the chat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chat_twisted.core import facts
from chat_twisted.core.audit import audit
from chat_twisted.core.commands import (
    Acknowledge,
    Arrive,
    BanFromRoom,
    Command,
    Delete,
    Detach,
    DuplicateQuery,
    Invite,
    Join,
    Login,
    MarkRead,
    Part,
    RemoveMember,
    Rename,
    SetMode,
    SetRank,
    SetRealName,
    SetTopic,
    Start,
)
from chat_twisted.core.delivery import Delivery, Said
from chat_twisted.core.departures import Departure, Departures
from chat_twisted.core.entries import Announced, Duplicate, Outcome, Result, Signalled
from chat_twisted.core.errors import ChatError, Unavailable
from chat_twisted.core.events import Announcement, Event, MemberInvited
from chat_twisted.core.ledger import Ledger
from chat_twisted.core.logins import Logins
from chat_twisted.core.message import Audience, Message, parse_target
from chat_twisted.core.presence import Watchers
from chat_twisted.core.sessions import BANNED, DISCONNECTED, REMOVED, Dismissal, Request, Session
from chat_twisted.logs import Logger

_ANSWERS: dict[type, tuple[type, ...]] = {
    Rename: (facts.UserRenamed,),
    SetRealName: (facts.RealNameSet,),
    Delete: (facts.Deleted,),
    Join: (facts.Joined,),
    Part: (facts.Left,),
    RemoveMember: (facts.Left,),
    Invite: (facts.Invited, facts.Asked),
    SetTopic: (facts.TopicSet,),
    SetRank: (facts.RankSet,),
    SetMode: (facts.ModeSet,),
    BanFromRoom: (facts.RoomBanned, facts.RoomUnbanned),
    MarkRead: (facts.MarkerSet,),
}
"""The facts whose event is the answer to a command; other sessions get the event itself."""


class Outcomes:
    """Delivers the outcomes of commands.

    :param ledger: stores the cursors of users.
    :param watchers: the sessions that are told who is present.
    :param departures: gets the users who have gone.
    :param settled: as in ``Hub``.
    :param start_failed: called with the first command of the node if it was not committed.
    """

    _log = Logger()

    def __init__(
        self,
        ledger: Ledger[Request | None],
        delivery: Delivery,
        watchers: Watchers[Session],
        logins: Logins,
        departures: Departures,
        settled: Callable[[], float],
        start_failed: Callable[[Start], None],
    ) -> None:
        self._ledger = ledger
        self._delivery = delivery
        self._routes = delivery.routes
        self._watchers = watchers
        self._logins = logins
        self._departures = departures
        self._settled = settled
        self._start_failed = start_failed

    def committed(self, batch: Sequence[tuple[Outcome, Request | None]]) -> None:
        """Deliver the outcomes of committed commands. Called by the ledger, in order."""
        run: list[Said] = []
        key = None
        for outcome, request in batch:
            result = outcome.result
            if type(result) is Message:
                author = result.author if result.recipient else 0
                reaches = (result.recipient, result.room, author)
                if run and key != reaches:
                    self._guarded(self._delivery.deliver, run)
                    run = []
                key = reaches
                run.append((result, request))
                continue
            if run:
                self._guarded(self._delivery.deliver, run)
                run = []
            self._guarded(self._report, outcome, request)
        if run:
            self._guarded(self._delivery.deliver, run)
        self._delivery.flush(more=self._ledger.has_backlog)

    def _guarded(self, function: Callable[..., None], *args: Any) -> None:
        """Call ``function``, and log an exception, so that a defect does not affect the rest of a
        batch.
        """
        try:
            function(*args)
        except Exception:  # noqa: BLE001
            self._log.failure("while delivering, {function}", function=function.__name__)

    def _report(self, outcome: Outcome, request: Request | None) -> None:
        """Process an outcome that is not a message: deliver its events, and answer the asker."""
        asker = None if request is None else request.session
        answered_by = () if request is None else _ANSWERS.get(type(request.command), ())
        answer: Event | None = None
        cause = DISCONNECTED
        for fact in outcome.facts:
            match fact:
                case facts.Imposed():
                    cause = BANNED
                case facts.AccountGone():
                    cause = REMOVED
                case facts.SessionGone(user, epoch):
                    if self._routes.is_last(user, epoch):
                        self._note_departure(user)
                    self._gone(fact, cause)
                case facts.UserGone(id):
                    self._delivery.absent(id, for_good=True)
                case facts.Left(user=user, until=until):
                    self._delivery.left(user, until)
                case facts.CursorMoved(user, number):
                    self._delivery.cursor_moved(user, number)
            self._watchers.follow(fact)
            told = self._routes.follow(fact)
            besides = None
            if told and asker is not None and answer is None and isinstance(fact, answered_by):
                mine = (
                    event
                    for event, sessions in told
                    if asker in sessions and not isinstance(event, MemberInvited)
                )
                answer, besides = next(mine, told[0].event), asker
            for event, sessions in told:
                self._delivery.tell(event, sessions, besides)
        if isinstance(outcome.result, Signalled):
            self._delivery.signal(outcome.result, asker)
        elif isinstance(outcome.result, Announced):
            announcement = Announcement(outcome.result.text)
            self._delivery.tell(announcement, list(self._routes.everybody), None)
        if request is not None:
            audit(request.command, outcome, self._routes.name_of)
            self.answer(request, outcome.result, answer)

    def _note_departure(self, user: int) -> None:
        routes = self._routes
        names = routes.name_of(user), routes.real_name_of(user), routes.login_name_of(user)
        known = self._ledger.state.users.get(user)  # a guest may have ended
        has_account = known is not None and known.account is not None
        time = int(self._settled() * 1000)
        self._departures.add(Departure(*names, has_account, time))

    def _gone(self, fact: facts.SessionGone, cause: str) -> None:
        """Called when a session of a user has ended, here or on another node."""
        for session in list(self._routes.of_user(fact.user)):
            if session.epoch == fact.epoch:
                if not fact.for_good:  # the other nodes have missed this one for too long
                    session.drop("this node was taken for lost")
                if not session.ended:
                    self._logins.detach(session)
                if fact.for_good:
                    by = self._routes.name_of(fact.by)
                    session.dismissed(Dismissal(cause, by, fact.reason))
        if not self._routes.has_others(fact.user, fact.epoch):
            self._delivery.absent(fact.user, for_good=False)

    def answer(self, request: Request, result: Result, event: Event | None) -> None:
        """Pass the result of a request to the session that has asked.

        :param event: the event that is the answer, if there is one.
        """
        session, command = request.session, request.command
        if session is None:
            if request.done is not None:
                request.done(result)
        elif type(command) is Login:
            self._logins.answer(request, result)
        elif session.ended:
            pass
        elif isinstance(result, ChatError):
            session.refused(request, result)
        elif isinstance(result, Duplicate):
            target = parse_target(request.argument)
            named = (
                self._ledger.state.names.get(target.key)
                if target.audience is Audience.USER
                else None
            )
            self._delivery.duplicate(request, result, 0 if named is None else named.id)
        elif type(command) is DuplicateQuery:
            assert request.refusal is not None
            session.refused(request, request.refusal)
        elif type(command) is Arrive:
            self._logins.arrived(session)
        else:
            session.answered(request, result, event)

    def failed(self, batch: Sequence[tuple[Command, Request | None]], error: Unavailable) -> None:
        """Handle the failure of commands that were not committed. Called by the ledger."""
        for command, request in batch:
            if isinstance(command, Start):
                self._start_failed(command)
            elif isinstance(command, Detach):
                self._logins.end_later(command)
            elif isinstance(command, Acknowledge):
                for user, number in command.cursors:
                    self._ledger.acknowledge(user, number)
            elif request is not None and type(command) is Arrive and request.session is not None:
                request.session.drop("can't write that it has arrived")
            elif request is not None:
                self._guarded(self.answer, request, error, None)

    def acknowledged(self, cursors: Sequence[tuple[int, int]]) -> None:
        """Note the messages that users have confirmed on other nodes. Called by the ledger."""
        for user, number in cursors:
            self._guarded(self._delivery.acknowledged, user, number)
