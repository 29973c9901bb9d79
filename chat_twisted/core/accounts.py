"""The rules of accounts: who has one, and what proves it.

Each rule returns the facts that a command leads to, or raises why it is refused, and changes
nothing. What is a key, and whether a password is the right one, was found out before; here it is
decided whether that still counts. When a proof is taken away, no token is good any more but that
of whoever takes it away; and a session whose proof another took away changes no account.
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
"""How many keys an account may have."""


def make(model: Model, command: MakeAccount, now: int) -> Outcome:
    """Give a user an account; the console, a name that nobody has."""
    if not command.key and not command.hash:
        raise NotPermitted("neither a key nor a password")
    facts: list[Fact] = []
    ordinal = model.version + 1
    if command.user == CONSOLE:
        name = check_user_name(command.name)
        if fold(name) in model.names:
            raise HasAccount("the name of somebody")
        id = command.id
        facts.append(UserCame(id, name, True, model.number, ordinal))
    else:
        user, session = asking(model, command.user, command.epoch)
        if user.account is not None:
            raise HasAccount
        if session.proof:  # of an account that another session has given up
            raise NotProven
        id = user.id
    facts.append(AccountMade(id, now))
    if command.key:
        facts.append(KeyAdded(id, command.key, command.comment, ordinal))
    if command.hash:
        facts.append(PasswordSet(id, command.hash))
    if command.user != CONSOLE:
        facts.append(ProofRenewed(id, command.epoch, command.key or command.hash))
    return Outcome(tuple(facts))


def drop(model: Model, command: DropAccount, now: int) -> Outcome:
    """Have the asker be a guest again, by no token but theirs; by the console, end the user."""
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
    """Let a key in."""
    user, account, _ = _whose(model, command.user, command.epoch, command.name)
    known = account.keys.get(command.key)
    if known is None and len(account.keys) >= MAX_KEYS:
        raise TooManyKeys
    ordinal = model.version + 1 if known is None else known[1]
    return Outcome((KeyAdded(user.id, command.key, command.comment, ordinal),))


def remove_key(model: Model, command: RemoveKey, now: int) -> Outcome:
    """Let a key in no more."""
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
    """Set the password, or have none."""
    user, account, session = _whose(model, command.user, command.epoch, command.name)
    if not command.hash and not account.keys:
        raise LastWayIn
    facts: list[Fact] = [PasswordSet(user.id, command.hash), *_tokens_gone(user, session)]
    if session is not None and session.proof == account.password:
        proof = command.hash or _other_proof(account, account.password)
        facts.append(ProofRenewed(user.id, command.epoch, proof))
    return Outcome(tuple(facts))


def set_operator(model: Model, command: SetOperator, now: int) -> Outcome:
    """Make an account an operator's, or not any more."""
    if command.user != CONSOLE:
        raise OperatorRequired("only at the server")
    user, account, _ = _whose(model, command.user, command.epoch, command.name)
    if account.operator == command.on:
        return Outcome(())
    return Outcome((OperatorSet(user.id, command.on),))


def _whose(model: Model, user: int, epoch: int, name: str) -> tuple[User, Account, Session | None]:
    """Return whose account is meant, and the asker's session, unless the console asks.

    :raises NoAccount: there is none.
    :raises NotProven: the asker's proof is none any more.
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
    """Return what proves who the user is when a proof is gone: whoever takes away the one that they
    came in by has just proven it, and goes on.
    """
    return next(proof for proof in (*account.keys, account.password) if proof not in (gone, ""))


def _tokens_gone(user: User, session: Session | None) -> list[Fact]:
    """Return the end of all tokens of a user, but for that of the asker's session."""
    return [
        TokenGone(user.id, digest)
        for digest in user.tokens
        if session is None or digest != session.token
    ]
