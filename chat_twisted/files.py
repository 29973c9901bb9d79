"""Folders and files on this machine: where they are by default, and who may use them.

The server, its commands and the client share this. It knows nothing of what is in a file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from pathlib import Path


class FilesError(Exception):
    """A folder or a file can't be used; the reason is one line."""


class InUse(FilesError):
    """Another process has locked the file; the text says which."""


def base_folder(variable: str, below: str, instead: str, user: int | None = None) -> Path:
    """Return the base folder of the XDG base directory specification.

    :param variable: the environment variable that names it, ``XDG_STATE_HOME`` for one.
    :param below: where it is in the home folder if the variable is not set.
    :param instead: what the operator can use to name a folder, an option or a variable.
    :param user: the number of another user whose folder it is; the environment is not theirs.
    :raises FilesError: the home folder is not known.
    """
    if user is None:
        base = os.environ.get(variable, "")
        if os.path.isabs(base):  # the specification wants others ignored
            return Path(base)
    home = os.environ.get("HOME", "") if user is None else ""
    if not os.path.isabs(home):
        number = os.geteuid() if user is None else user
        try:
            home = pwd.getpwuid(number).pw_dir
        except KeyError:
            home = ""
        if not os.path.isabs(home):
            unset = "HOME is not set and " if user is None else ""
            raise FilesError(f"{unset}user {number} has no home folder: name a folder by {instead}")
    return Path(home) / below


# Who may use them


Say = Callable[[str], None]
"""Takes a line for the operator: what was found and mended."""


def make_private_folder(folder: Path, say: Say) -> Path:
    """Make a folder that is this user's alone, or see that the one that is there can be used.

    :return: it, without symbolic links.
    :raises FilesError: it can't be made, is another user's, or others may write in it: what is in
        it may be theirs, so that is for a person to mend.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        link = folder.lstat()
        resolved = folder.resolve(strict=True)
        found = resolved.stat()
    except OSError as error:
        raise FilesError(f"{folder}: {error.strerror}") from None
    if stat.S_ISLNK(link.st_mode):
        _require_owner(folder, link, os.geteuid(), 0)
        say(f"{folder} is a symbolic link to {resolved}")
    _require_owner(folder, found, os.geteuid())
    if found.st_mode & 0o022:
        raise FilesError(f"{folder}: other users may write in it (chmod 700 makes it yours alone)")
    if found.st_mode & 0o055:
        say(f"{folder}: other users may list what is in it (chmod 700 makes it yours alone)")
    return resolved


def make_private(path: Path, say: Say) -> None:
    """Take a file's permissions from all but its owner, if it is there.

    :param path: in a folder that ``make_private_folder`` has returned.
    :raises FilesError: it is another user's, a symbolic link or no file at all.
    """
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            raise FilesError(f"{path}: a symbolic link, where the file itself must be")
        if not stat.S_ISREG(found.st_mode):
            what = os.strerror(errno.EISDIR) if path.is_dir() else "Not a regular file"
            raise FilesError(f"{path}: {what}")
        _require_owner(path, found, os.geteuid())
        if found.st_mode & 0o077:
            path.chmod(stat.S_IMODE(found.st_mode) & 0o700)
            verb = "write" if found.st_mode & 0o022 else "read"
            say(f"{path}: other users could {verb} it; from now on they can't")
    except FileNotFoundError:
        return
    except OSError as error:
        raise FilesError(f"{path}: {error.strerror}") from None


def require_trusted(path: Path, *, secret: bool = False) -> None:
    """See that not everybody may write a file that the operator has named; or read it, if it is
    secret. Such a file is not mended: it may be there for others too.

    :raises FilesError: they may.
    :raises OSError: it can't be looked at.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        return
    if secret:
        _require_owner(path, found, os.geteuid(), 0)
    if found.st_mode & (0o022 if secret else 0o002):
        raise FilesError(f"{path}: other users may write it (chmod go-w)")
    if secret and found.st_mode & 0o004:
        raise FilesError(f"{path}: all users may read it (chmod o-r)")


def _require_owner(path: Path, found: os.stat_result, *users: int) -> None:
    if found.st_uid not in users:
        raise FilesError(f"{path}: belongs to {user_name(found.st_uid)}, not {user_name(users[0])}")


def user_name(number: int) -> str:
    """Return what the system calls a user."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


@contextlib.contextmanager
def acting_as(user: int | None, group: int | None) -> Iterator[None]:
    """Let root do something with the rights of another user, who then owns what is made.

    :param user: None for the one that this process has; so with ``group``.
    :raises FilesError: this process may not do so, or there is no such user.
    """
    own_user, own_group = os.geteuid(), os.getegid()
    if user in (None, own_user) and group in (None, own_group):
        yield
        return
    if own_user != 0:
        raise FilesError("only root can run it as another user or group")
    number = own_user if user is None else user
    try:
        entry = pwd.getpwuid(number)
    except KeyError:
        raise FilesError(f"there is no user {number}") from None
    groups = os.getgroups()
    primary = entry.pw_gid if group is None else group
    os.initgroups(entry.pw_name, primary)
    os.setegid(primary)
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(own_user)
        os.setegid(own_group)
        os.setgroups(groups)


@contextlib.contextmanager
def sharing(folder: Path, *, alone: bool = False) -> Iterator[None]:
    """Hold a folder for a while, so that nobody exchanges its files meanwhile; ``alone`` to do so.

    :raises InUse: somebody else has it for themselves, or has it at all.
    :raises FilesError: there is no such folder.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FilesError(f"{folder}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"{folder}: another command uses it, try again when that is done") from None
        except OSError:
            if alone:
                raise FilesError(f"{folder}: can't be locked") from None
        yield
    finally:
        os.close(descriptor)


class ProcessFile:
    """A file that one process at a time has locked, until it and its children have ended, and that
    says which.

    :param path: it is made unless it is there.
    :raises InUse: another process has it.
    :raises FilesError: it can't be opened.
    """

    def __init__(self, path: Path, mode: int = 0o600) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(path, flags, mode)
        except OSError as error:
            raise FilesError(f"{path}: {error.strerror}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            number = os.read(self._descriptor, 20).decode("ascii", "replace").strip()
            self.close()
            who = f"process {number}" if number.isdigit() else "it is starting or ending"
            raise InUse(who) from None
        self.clear()  # a process that was killed has left its number

    def write(self) -> None:
        """Write the number of this process, which may be another one than has locked it."""
        self.clear()
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def clear(self) -> None:
        """Say that there is no such process, or will be none in a moment."""
        os.ftruncate(self._descriptor, 0)

    def remove(self) -> None:
        """Clear and delete the file, as far as this user may."""
        self.clear()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._descriptor)
