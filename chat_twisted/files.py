"""Default folders, file permissions and file locks.

The server, the commands and the client share this module. It must not know the contents of any
file.
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

CONTROL = "control.socket"
"""The name of the socket in the state folder at which the server takes the operator's commands."""

MAX_SOCKET_PATH = 100
"""Maximum bytes of the path of a Unix socket: Linux allows 107, other systems 103."""


class FilesError(Exception):
    """A folder or file can't be used. The message is one line for the user."""


class InUse(FilesError):
    """Another process holds the lock. The message names the process.

    :ivar process: the ID of the process, if it is known.
    """

    def __init__(self, reason: str, process: int | None = None) -> None:
        super().__init__(reason)
        self.process = process


def base_folder(variable: str, below: str, instead: str, user: int | None = None) -> Path:
    """Return a base folder of the XDG Base Directory Specification.

    :param variable: the environment variable that names the folder, for example ``XDG_STATE_HOME``.
    :param below: the path below the home folder that is used if the variable is not set.
    :param instead: the option or variable that the error message recommends for naming a folder.
    :param user: a user ID, to get the default folder of that user; the environment is then ignored.
        None means the current user.
    :raises FilesError: if the home folder is not known.
    """
    if user is None:
        base = os.environ.get(variable, "")
        if os.path.isabs(base):  # the specification says to ignore relative paths
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


# Permissions


Say = Callable[[str], None]
"""Reports one line to the operator, such as a permission that was corrected."""


def make_private_folder(folder: Path, say: Say) -> Path:
    """Create a private folder, or check that the existing one is safe to use.

    :return: the folder's path with symbolic links resolved.
    :raises FilesError: if it can't be created, belongs to another user, or is writable by others.
        Its files may then be from others, so the operator must correct it.
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
        # systemd makes such a link for a service with DynamicUser.
        if resolved != folder.absolute().parent / "private" / folder.name:
            say(f"{folder} is a symbolic link to {resolved}")
    _require_owner(folder, found, os.geteuid())
    if found.st_mode & 0o022:
        raise FilesError(f"{folder}: other users may write in it (chmod 700 makes it yours alone)")
    if found.st_mode & 0o055:
        say(f"{folder}: other users may list what is in it (chmod 700 makes it yours alone)")
    return resolved


def make_private(path: Path, say: Say) -> None:
    """Remove all permissions of other users from a file, if the file exists.

    :param path: a path in a folder that ``make_private_folder`` has returned.
    :raises FilesError: if the file belongs to another user, is a symbolic link, or is not a regular
        file.
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


def write_private(path: Path, data: bytes) -> None:
    """Write a private file atomically.

    :param path: a path in a folder that ``make_private_folder`` has returned.
    :raises OSError: if it can't be written.
    """
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    temporary.rename(path)


def require_trusted(path: Path, *, secret: bool = False) -> None:
    """Check that a file named by the operator is not writable by everybody.

    Permissions are not changed, because the file may serve other programs too.

    :param secret: also require that only its owner and group can read it, and that it belongs to
        this user or to root.
    :raises FilesError: if the permissions are too wide.
    :raises OSError: if the file can't be examined.
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


def require_owner(path: Path) -> None:
    """Check that a file belongs to this user.

    :raises FilesError: if not.
    """
    _require_owner(path, path.lstat(), os.geteuid())


def _require_owner(path: Path, found: os.stat_result, *users: int) -> None:
    if found.st_uid not in users:
        raise FilesError(f"{path}: belongs to {user_name(found.st_uid)}, not {user_name(users[0])}")


def user_name(number: int) -> str:
    """Return the login name of a user ID, or a description if there is none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def is_locked(path: Path) -> bool:
    """Return whether a process holds a lock on a file (``ProcessFile``)."""
    with contextlib.suppress(OSError), open(path, "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextlib.contextmanager
def acting_as(user: int | None, group: int | None) -> Iterator[None]:
    """Run the body of a ``with`` statement, as root, with the rights of another user.

    Files created in the body belong to that user.

    :param user: a user ID; None for the current user.
    :param group: a group ID; None for the user's own group.
    :raises FilesError: if this process is not root, or there is no such user.
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
    """Lock a folder during a ``with`` statement, so that its files are not replaced.

    :param alone: take an exclusive lock, which is needed to replace files; otherwise the lock is
        shared.
    :raises InUse: if another process holds a conflicting lock.
    :raises FilesError: if the folder does not exist or can't be locked.
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
    """A lock file that holds the ID of the process using it (a PID file).

    One process at a time can lock it. The lock ends when that process and its children have ended.

    :param path: the file; it is created if needed.
    :raises InUse: if another process has locked it.
    :raises FilesError: if it can't be opened.
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
            if number.isdigit():
                raise InUse(f"process {number}", int(number)) from None
            raise InUse("it is starting or ending") from None
        self.clear()  # a process that was killed has left its ID

    def write(self) -> None:
        """Write the ID of this process, which may be a child of the process that took the lock."""
        self.clear()
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def clear(self) -> None:
        """Empty the file: no process uses it, or the process is about to end."""
        os.ftruncate(self._descriptor, 0)

    def remove(self) -> None:
        """Empty the file, and delete it if this user may."""
        self.clear()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)


class ShortPath:
    """A path for a Unix socket that is at most ``MAX_SOCKET_PATH`` bytes long.

    A longer path is replaced by one under ``/proc`` that leads through the open folder, so the
    object must stay open while the path is used.

    :ivar path: the short path.
    :raises FilesError: if the path is too long and the system has no ``/proc``, or if there is no
        such folder.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = str(folder / name)
        self._descriptor: int | None = None
        if len(os.fsencode(self.path)) <= MAX_SOCKET_PATH:
            return
        if not os.path.isdir("/proc/self/fd"):
            raise FilesError(f"{self.path}: too long for a Unix socket: choose another --state")
        try:
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise FilesError(f"{folder}: {error.strerror}") from None
        self.path = f"/proc/self/fd/{self._descriptor}/{name}"

    def close(self) -> None:
        """Close the folder; a path under ``/proc`` is not valid any more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
