"""The state of the chat, a deterministic state machine: entries in, outcomes out.

``State.apply`` is the only method that changes a state. The rule of the entry's command computes
facts from the state, or refuses. Each fact is then applied, followed by its consequences: a guest
is held, another one is evicted, a room gets a new operator or ends. A refusal changes nothing; an
accepted entry changes what its facts say, and increments the version. The ledger stores the facts,
so a state that is loaded from the archive decides like the one that was stored.

This module has the table of rules. The rules are in ``names``, ``messages``, ``room_rules``,
``accounts`` and ``sanctions``, and what each fact changes is in ``changes``. Nothing here may read
a clock or use random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from chat_twisted.core import (
    accounts,
    commands,
    entries,
    facts,
    messages,
    names,
    room_rules,
    sanctions,
)
from chat_twisted.core.changes import APPLY, apply_message
from chat_twisted.core.entries import Entry, Outcome
from chat_twisted.core.errors import ChatError
from chat_twisted.core.facts import Fact
from chat_twisted.core.message import Message
from chat_twisted.core.model import Model

Rule = Callable[[Model, Any, int], Outcome]


def _sweep(model: Model, command: commands.Sweep, now: int) -> Outcome:
    ends = sanctions.due(model, now, command.limit)
    count = len(ends)
    held = model.holds.due(now, command.limit - count)
    for id in held:
        ends += names.end(model, model.users[id])
    return Outcome(tuple(ends), entries.Swept(count + len(held)))


def _turn(model: Model, command: commands.Turn, now: int) -> Outcome:
    return Outcome(())


_RULES: dict[type, Rule] = {
    commands.Start: names.start,
    commands.SetOptions: names.set_options,
    commands.Login: names.login,
    commands.Arrive: names.arrive,
    commands.Detach: names.detach,
    commands.Rename: names.rename,
    commands.SetAway: names.set_away,
    commands.SetRealName: names.set_real_name,
    commands.SetBot: names.set_bot,
    commands.Acknowledge: names.acknowledge,
    commands.MarkRead: messages.mark_read,
    commands.Send: messages.send,
    commands.Signal: messages.signal,
    commands.Announce: sanctions.announce,
    commands.DuplicateQuery: messages.duplicate_query,
    commands.Delete: messages.delete,
    commands.Join: room_rules.join,
    commands.Part: room_rules.part,
    commands.RemoveMember: room_rules.remove_member,
    commands.Invite: room_rules.invite,
    commands.SetTopic: room_rules.set_topic,
    commands.SetRank: room_rules.set_rank,
    commands.SetMode: room_rules.set_mode,
    commands.BanFromRoom: room_rules.ban,
    commands.MakeAccount: accounts.make,
    commands.DropAccount: accounts.drop,
    commands.AddKey: accounts.add_key,
    commands.RemoveKey: accounts.remove_key,
    commands.SetPassword: accounts.set_password,
    commands.SetOperator: accounts.set_operator,
    commands.Disconnect: sanctions.disconnect,
    commands.Impose: sanctions.impose,
    commands.Lift: sanctions.lift,
    commands.Sweep: _sweep,
    commands.Turn: _turn,
}


class State(Model):
    """The state of the chat. It starts empty, or is loaded (``snapshot.load``)."""

    def apply(self, entry: Entry) -> Outcome:
        """Decide an entry, and change the state accordingly.

        :return: the outcome, whose facts include all consequences.
        """
        time, command = entry
        now = time if time > self.time else self.time
        try:
            outcome = _RULES[type(command)](self, command, now)
        except ChatError as refusal:
            return Outcome((), refusal)
        changes, result = outcome
        if not changes:
            return outcome
        if len(changes) == 1 and type(changes[0]) is Message:
            apply_message(self, changes[0])
        else:
            applied: list[Fact] = []
            for fact in changes:
                self._apply(fact, now, applied)
            outcome = Outcome(tuple(applied), result)
        self.time = now
        self.version += 1
        return outcome

    def check(self, command: commands.Command, time: int) -> None:
        """Check that a command would be accepted, without changing anything.

        :param time: the time of the entry, in milliseconds of the log's clock.
        :raises ChatError: if it would be refused.
        """
        _RULES[type(command)](self, command, max(time, self.time))

    def _apply(self, fact: Fact, now: int, applied: list[Fact]) -> None:
        """Apply a fact, then those that follow from it; add all of them to ``applied``."""
        applied.append(fact)
        APPLY[type(fact)](self, fact)
        follow = _FOLLOW.get(type(fact))
        if follow is not None:
            for further in follow(self, fact, now):
                self._apply(further, now, applied)


_FOLLOW: dict[type, Callable[[Model, Any, int], Iterator[Fact]]] = {
    facts.OptionsSet: lambda model, fact, now: names.after_options(model, fact),
    facts.SessionGone: names.after_session,
    facts.Held: lambda model, fact, now: names.after_held(model, fact),
    facts.Left: lambda model, fact, now: room_rules.after_left(model, fact),
}
"""Functions that return the further facts that follow from an applied fact."""
