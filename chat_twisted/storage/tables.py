"""The tables of the state in the archive: writing facts, and loading the whole state.

Each kind of fact is written by a few statements that find their rows by key; nothing is decided
here. The functions take a cursor, and the caller ends the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chat_twisted.core import facts
from chat_twisted.core.commands import (
    INVITE_ONLY,
    MODERATED,
    MODES,
    PRIVATE,
    SECRET,
    TOPIC_LOCKED,
    Options,
)
from chat_twisted.core.entries import Progress
from chat_twisted.core.facts import Fact
from chat_twisted.core.message import Message
from chat_twisted.core.model import REMEMBER
from chat_twisted.core.snapshot import Snapshot
from chat_twisted.storage.sql import Cursor, in_rows

COLUMNS = 'number, time, author, sender, recipient, room, "to", text, request, kind, logged'
"""The columns of a message, in the order of the fields of ``Message``."""

_OF_USER = ("token", "hold", "marker", "member", "invitation")
"""Tables whose rows are deleted together with their user; sessions and the account went before."""

_STATEMENTS: dict[type, tuple[str, ...]] = {
    facts.OptionsSet: (),  # see below
    facts.NumbersSkipped: (),  # ``write`` stores the progress
    facts.UserCame: (
        "INSERT INTO user VALUES "
        "(:id, :name, :kept, :since, :ordinal, :since, 0, NULL, :time, '', 0, '')",
    ),
    facts.UserRenamed: ("UPDATE user SET name = :name WHERE id = :id",),
    facts.UserGone: (
        "DELETE FROM user WHERE id = :id",
        *(f"DELETE FROM {table} WHERE user = :id" for table in _OF_USER),
    ),
    facts.TokenAdded: ("INSERT INTO token VALUES (:user, :digest, :proof, :ordinal)",),
    facts.TokenGone: ("DELETE FROM token WHERE user = :user AND digest = :digest",),
    facts.SessionCame: (
        "INSERT INTO session VALUES (:user, :epoch, :node, :host, :token, :proof, :present)",
        "UPDATE user SET epoch = :epoch WHERE id = :user",
        "DELETE FROM hold WHERE user = :user",
    ),
    facts.SessionArrived: ("UPDATE session SET present = 1 WHERE user = :user AND epoch = :epoch",),
    facts.SessionGone: ("DELETE FROM session WHERE user = :user AND epoch = :epoch",),
    facts.ProofRenewed: (
        "UPDATE session SET proof = :proof WHERE user = :user AND epoch = :epoch",
        "UPDATE token SET proof = :proof WHERE user = :user "
        "AND digest = (SELECT token FROM session WHERE user = :user AND epoch = :epoch)",
    ),
    facts.Held: ("INSERT INTO hold VALUES (:user, :until, :address, :ordinal)",),
    facts.AwaySet: ("UPDATE user SET away = :why WHERE id = :user",),
    facts.RealNameSet: ("UPDATE user SET real_name = :real_name WHERE id = :user",),
    facts.LoginNameSet: ("UPDATE user SET login_name = :login_name WHERE id = :user",),
    facts.BotSet: ("UPDATE user SET bot = :on WHERE id = :user",),
    facts.CursorMoved: ("UPDATE user SET cursor = :number WHERE id = :user",),
    facts.MarkerSet: (
        "INSERT OR REPLACE INTO marker VALUES (:user, :room, :name, :number, :time)",
    ),
    facts.MarkerGone: ("DELETE FROM marker WHERE user = :user AND room = :room AND name = :name",),
    facts.Deleted: (
        "INSERT OR IGNORE INTO deletion SELECT number, text FROM message WHERE number = :number",
        "UPDATE message SET text = '' WHERE number = :number",
    ),
    facts.AuthorErased: ("INSERT OR REPLACE INTO erasure VALUES (:user, :number, 0)",),
    facts.RoomMade: (
        "INSERT INTO room VALUES "
        "(:id, :name, :address, :time, :ordinal, :private, 0, 0, '', '', 0, 0, 0)",
    ),
    facts.RoomGone: (
        "DELETE FROM room WHERE id = :id",
        "DELETE FROM invitation WHERE room = :id",
        "DELETE FROM room_ban WHERE room = :id",
    ),
    facts.Joined: (
        # A user who left, and joins again before the next message, has a row with this "since".
        "INSERT OR REPLACE INTO member (room, user, since, until, rank, ordinal) "
        "VALUES (:room, :user, :since, NULL, :rank, :ordinal)",
        "DELETE FROM invitation WHERE room = :room AND user = :user",
    ),
    facts.Left: (
        "UPDATE member SET until = :until WHERE room = :room AND user = :user AND until IS NULL",
    ),
    facts.RankSet: (
        "UPDATE member SET rank = :rank WHERE room = :room AND user = :user AND until IS NULL",
    ),
    facts.ModeSet: (),  # see below
    facts.TopicSet: (
        "UPDATE room SET topic = :topic, topic_author = :author, topic_time = :time "
        "WHERE id = :room",
    ),
    facts.Invited: ("INSERT OR REPLACE INTO invitation VALUES (:room, :user)",),
    facts.Uninvited: ("DELETE FROM invitation WHERE room = :room AND user = :user",),
    facts.Asked: (),
    facts.RoomBanned: (
        "INSERT OR REPLACE INTO room_ban VALUES (:room, :name, :author, :time, :reason)",
    ),
    facts.RoomUnbanned: ("DELETE FROM room_ban WHERE room = :room AND name = :name",),
    facts.AccountMade: ("INSERT INTO account VALUES (:user, :time, 0, '')",),
    facts.AccountGone: (
        "DELETE FROM account WHERE user = :user",
        "DELETE FROM key WHERE user = :user",
    ),
    facts.KeyAdded: ("INSERT OR REPLACE INTO key VALUES (:user, :key, :comment, :ordinal)",),
    facts.KeyRemoved: ("DELETE FROM key WHERE user = :user AND key = :key",),
    facts.PasswordSet: ("UPDATE account SET password = :hash WHERE user = :user",),
    facts.OperatorSet: ("UPDATE account SET operator = :on WHERE user = :user",),
    facts.Imposed: (
        "INSERT OR REPLACE INTO sanction VALUES (:kind, :subject, :until, :reason, :author)",
    ),
    facts.Lifted: ("DELETE FROM sanction WHERE kind = :kind AND subject = :subject",),
}
"""The SQL statements for each kind of fact; their parameters are the fact's fields."""

_MODES = {
    PRIVATE: "private",
    MODERATED: "moderated",
    TOPIC_LOCKED: "topic_locked",
    INVITE_ONLY: "invite_only",
    SECRET: "secret",
}


def write(cursor: Cursor, changes: Iterable[Fact], progress: Progress) -> None:
    """Write the facts of one commit, in order, and the progress of the state after them.

    All messages are written by one statement for many rows, so that Python's lock is passed a few
    times per batch and not once per row.
    """
    messages: list[Message] = []
    others: list[Fact] = []
    for fact in changes:
        if type(fact) is Message:
            messages.append(fact)
        else:
            others.append(fact)
    # Messages first: a later fact of the same commit may delete one of them.
    for values, parameters in in_rows(messages):
        cursor.execute(f"INSERT INTO message ({COLUMNS}) VALUES {values}", parameters)
    for fact in others:
        _write(cursor, fact)
    cursor.execute("UPDATE progress SET version = ?, logged = ?, newest = ?", progress)


def _write(cursor: Cursor, fact: Fact) -> None:
    match fact:
        case facts.OptionsSet(options):
            cursor.execute("DELETE FROM options")
            cursor.execute("INSERT INTO options VALUES (?, ?, ?, ?, ?, ?)", options)
        case facts.ModeSet(room, mode, on):
            cursor.execute(f"UPDATE room SET {_MODES[mode]} = ? WHERE id = ?", (on, room))
        case _:
            parameters = fact._asdict()
            for statement in _STATEMENTS[type(fact)]:
                cursor.execute(statement, parameters)


def probe(cursor: Cursor) -> None:
    """Write one row without changing it, to find out whether writing is possible."""
    cursor.execute("UPDATE progress SET version = version")


def load(cursor: Cursor) -> Snapshot:
    """Read all rows from which the state is loaded (``snapshot.load``)."""

    def rows(sql: str, *parameters: Any) -> Any:
        cursor.execute(sql, parameters)
        return cursor.fetchall()

    modes = ", ".join(_MODES[mode] for mode in MODES)
    [progress] = rows("SELECT version, logged, newest FROM progress")
    _, logged, _ = progress
    options = Options()
    for row in rows("SELECT * FROM options"):
        options = Options._make(row)._replace(guests=bool(row[1]))
    return Snapshot(
        Progress._make(progress),
        options,
        users=rows(
            "SELECT id, name, kept, since, ordinal, cursor, epoch, away, time, real_name, bot, "
            "login_name FROM user ORDER BY ordinal"
        ),
        tokens=rows("SELECT user, digest, proof, ordinal FROM token ORDER BY ordinal"),
        sessions=rows(
            "SELECT user, epoch, node, host, token, proof, present FROM session "
            "ORDER BY user, epoch"
        ),
        holds=rows(
            "SELECT user, until, address, hold.ordinal FROM hold JOIN user ON user.id = user "
            "ORDER BY hold.ordinal, user.ordinal"
        ),
        markers=rows("SELECT user, room, name, number, time FROM marker"),
        accounts=rows("SELECT user, time, operator, password FROM account"),
        keys=rows("SELECT user, key, comment, ordinal FROM key ORDER BY ordinal"),
        rooms=rows(
            f"SELECT id, name, address, time, ordinal, {modes}, "
            "topic, topic_author, topic_time FROM room ORDER BY ordinal"
        ),
        members=rows(
            "SELECT room, user, rank, since, ordinal FROM member WHERE until IS NULL "
            "ORDER BY ordinal"
        ),
        invitations=rows("SELECT room, user FROM invitation"),
        room_bans=rows("SELECT room, name, author, time, reason FROM room_ban"),
        sanctions=rows("SELECT kind, subject, until, reason, author FROM sanction"),
        sent=rows(
            "SELECT author, request, number, time, logged FROM message WHERE number > "
            "ifnull((SELECT max(number) FROM moment WHERE moment.time < ?), 0) "
            "AND logged > ? AND request IS NOT NULL ORDER BY number",
            logged - REMEMBER,
            logged - REMEMBER,
        ),
    )
