"""The rules of accounts: making and deleting them, their keys, passwords and operators.

Each rule returns the facts that follow from a command, or raises a ``ChatError`` if the command is
refused. It changes nothing. Keys and passwords were verified before (``auth.gate``); the rules
check that they still belong to the account. When a proof is removed, all tokens of the user become
invalid except that of the asking session. A session whose own proof was removed by another session
can't change the account.
"""

from __future__ import annotations

from chat_twisted.core.commands import (
    CONSOLE,
    AddKey,
    DropAccount,
    MakeAccount,
    RemoveKey,
    SetOperator,
    SetPassword,
)
from chat_twisted.core.entries import Outcome
from chat_twisted.core.errors import (
    HasAccount,
    LastWayIn,
    NoAccount,
    NoSuchKey,
    NotPermitted,
    NotProven,
    OperatorRequired,
    TooManyKeys,
)
from chat_twisted.core.facts import (
    AccountGone,
    AccountMade,
    AuthorErased,
    Fact,
    KeyAdded,
    KeyRemoved,
    OperatorSet,
    PasswordSet,
    ProofRenewed,
    TokenGone,
    UserCame,
)
from chat_twisted.core.message import check_user_name, fold
from chat_twisted.core.model import Account, Model, Session, User
from chat_twisted.core.names import asking, dismiss, end

MAX_KEYS = 32
"""Maximum number of keys of an account."""


def make(model: Model, command: MakeAccount, now: int) -> Outcome:
    """Make an account for the asker; for the console, with a new user of the given name."""
    if not command.key and not command.hash:
        raise NotPermitted("neither a key nor a password")
    facts: list[Fact] = []
    ordinal = model.version + 1
    if command.user == CONSOLE:
        name = check_user_name(command.name)
        if fold(name) in model.names:
            raise HasAccount("the name of somebody")
        id = command.id
        facts.append(UserCame(id, name, True, model.number, ordinal, command.time))
    else:
        user, session = asking(model, command.user, command.epoch)
        if user.account is not None:
            raise HasAccount
        if session.proof:  # of an account that another session has given up
            raise NotProven
        id = user.id
    facts.append(AccountMade(id, command.time))
    if command.key:
        facts.append(KeyAdded(id, command.key, command.comment, ordinal))
    if command.hash:
        facts.append(PasswordSet(id, command.hash))
    if command.user != CONSOLE:
        facts.append(ProofRenewed(id, command.epoch, command.key or command.hash))
    return Outcome(tuple(facts))


def drop(model: Model, command: DropAccount, now: int) -> Outcome:
    """Delete the account of the asker, who becomes a guest and keeps only the token of the asking
    session; for the console, delete an account and end its user.
    """
    user, _, session = _whose(model, command.user, command.epoch, command.name)
    facts: list[Fact] = [AuthorErased(user.id, model.number)] if command.erase else []
    facts += _tokens_gone(user, session)
    facts.append(AccountGone(user.id))
    if session is not None:
        facts.append(ProofRenewed(user.id, command.epoch, ""))
    elif user.sessions:
        facts += dismiss(user, CONSOLE, "the account was removed")
    else:
        facts += end(model, user)
    return Outcome(tuple(facts))


def add_key(model: Model, command: AddKey, now: int) -> Outcome:
    """Add a key to an account, or change its comment."""
    user, account, _ = _whose(model, command.user, command.epoch, command.name)
    known = account.keys.get(command.key)
    if known is None and len(account.keys) >= MAX_KEYS:
        raise TooManyKeys
    ordinal = model.version + 1 if known is None else known[1]
    return Outcome((KeyAdded(user.id, command.key, command.comment, ordinal),))


def remove_key(model: Model, command: RemoveKey, now: int) -> Outcome:
    """Remove a key from an account, unless it is the last way to log in."""
    user, account, session = _whose(model, command.user, command.epoch, command.name)
    if command.key not in account.keys:
        raise NoSuchKey
    if account.ways_in < 2:
        raise LastWayIn
    facts: list[Fact] = [KeyRemoved(user.id, command.key), *_tokens_gone(user, session)]
    if session is not None and session.proof == command.key:
        facts.append(ProofRenewed(user.id, command.epoch, _other_proof(account, command.key)))
    return Outcome(tuple(facts))


def set_password(model: Model, command: SetPassword, now: int) -> Outcome:
    """Set or remove the password of an account, unless it is the last way to log in."""
    user, account, session = _whose(model, command.user, command.epoch, command.name)
    if not command.hash and not account.keys:
        raise LastWayIn
    facts: list[Fact] = [PasswordSet(user.id, command.hash), *_tokens_gone(user, session)]
    if session is not None and session.proof == account.password:
        proof = command.hash or _other_proof(account, account.password)
        facts.append(ProofRenewed(user.id, command.epoch, proof))
    return Outcome(tuple(facts))


def set_operator(model: Model, command: SetOperator, now: int) -> Outcome:
    """Make the user of an account an operator of the server, or revoke that."""
    if command.user != CONSOLE:
        raise OperatorRequired("only at the server")
    user, account, _ = _whose(model, command.user, command.epoch, command.name)
    if account.operator == command.on:
        return Outcome(())
    return Outcome((OperatorSet(user.id, command.on),))


def _whose(model: Model, user: int, epoch: int, name: str) -> tuple[User, Account, Session | None]:
    """Return the user and the account that a command is about, and the asking session.

    :return: the session is None if the console asks.
    :raises NoAccount: if there is no account.
    :raises NotProven: if the account does not have the proof of the asking session any more.
    """
    session = None
    if user == CONSOLE:
        found = model.names.get(fold(name))
    else:
        found, session = asking(model, user, epoch)
    if found is None or found.account is None:
        raise NoAccount
    if session is not None and not found.account.is_proof(session.proof):
        raise NotProven
    return found, found.account, session


def _other_proof(account: Account, gone: str) -> str:
    """Return a proof of the account other than ``gone``. A session that removes its own proof
    depends on that one from now on.
    """
    return next(proof for proof in (*account.keys, account.password) if proof not in (gone, ""))


def _tokens_gone(user: User, session: Session | None) -> list[Fact]:
    """Return the facts that end all tokens of a user except that of the asking session."""
    return [
        TokenGone(user.id, digest)
        for digest in user.tokens
        if session is None or digest != session.token
    ]
