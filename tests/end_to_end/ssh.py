"""Real SSH clients for end-to-end tests: OpenSSH, PuTTY's plink and Dropbear's dbclient.

Their keys, known hosts and agents are in the test's own folder; nothing of the machine is read.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
from pathlib import Path

from tests.end_to_end.support import Peer, Process
from tests.end_to_end.test_terminal import Terminal, TerminalTestCase, wait_until
from tests.quick_keys import put_host_keys

PACKAGES = {"ssh": "openssh-client", "plink": "putty-tools", "dbclient": "dropbear-bin"}
"""The clients, and Debian's packages of them."""

CLIENTS = tuple(PACKAGES)

SAID = "psst"
"""A word in everything that is secret, such as texts and passwords: no log line may have it."""

NOT_ASKED = ("setsid", "--wait")
"""Put before a client that has no terminal of its own: otherwise it asks for a password at that of
whoever runs the tests.
"""

TOLD_BY_PLINK = re.compile('Using username "')


class SSHTestCase(TerminalTestCase):
    """Starts a server, and SSH clients that know its host key by the line in its log. Its keys have
    been made before: a server of test_admin.py makes its own.
    """

    ssh_door = True

    def setUp(self) -> None:
        missing = [package for client, package in PACKAGES.items() if not shutil.which(client)]
        if missing:
            self.skipTest(f"no SSH clients without {' and '.join(missing)}")
        super().setUp()
        self.home_folder = self.path("home")  # plink and dbclient look there
        (self.home_folder / ".ssh").mkdir(parents=True)
        self.known_hosts = self.path("known_hosts")
        self.host_key = self.logged(r"(\[127\.0\.0\.1\]:\d+ ssh-ed25519 [\w+/=]+)")
        self.known_hosts.write_text(f"{self.host_key}\n")
        kept = self.host_key.replace(f"[127.0.0.1]:{self.port}", "127.0.0.1")  # Dropbear's way
        (self.home_folder / ".ssh/known_hosts").write_text(f"{kept}\n")
        lines = self.finish("ssh-keygen", "-lf", str(self.known_hosts))[1]
        self.ssh_fingerprint = lines.split()[1]

    def start(self) -> None:
        if not self.state.exists():
            put_host_keys(self.state)
        super().start()

    def tearDown(self) -> None:
        lines = self.server.out + self.server.err
        self.assertNoTraceback()
        self.assertEqual([line for line in lines if SAID in line], [])

    def path(self, name: str) -> Path:
        return Path(self.folder.name) / name

    def logged(self, pattern: str) -> str:
        """Return the group of the first line that the server has logged, or will log."""
        for line in list(self.server.out):
            if match := re.search(pattern, line):
                return match[1]
        return self.server.wait_for(pattern)[1]

    # Keys

    def key(self, name: str, kind: str = "ed25519") -> Path:
        """Return the file of a private key, which is made if it is missing."""
        file = self.path(f"{name}.key")
        if not file.exists():
            size = ("-b", "2048") if kind == "rsa" else ()
            self.finish("ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", "", "-f", str(file))
        return file

    def public_key(self, name: str) -> str:
        return self.key(name).with_suffix(".key.pub").read_text().strip()

    def _converted(self, name: str, client: str) -> Path:
        """Return the file of a key in the format of a client."""
        file = self.key(name)
        match client:
            case "plink":
                made = file.with_suffix(".ppk")
                command = ("puttygen", str(file), "-O", "private", "-o", str(made))
            case "dbclient":
                made = file.with_suffix(".dropbear")
                command = ("dropbearconvert", "openssh", "dropbear", str(file), str(made))
            case _:
                return file
        if not made.exists():
            self.finish(*command)
        return made

    # Clients

    def ssh(
        self,
        user: str,
        *command: str,
        key: str | None = "",
        password: str = "",
        options: tuple[str, ...] = (),
        terminal: bool = False,
        port: int = 0,
    ) -> tuple[str, ...]:
        """Return the command line of OpenSSH's client.

        :param command: what the server is to carry out.
        :param key: the name of the key; empty for that of the user, None for no key.
        :param password: a password for a login without a key.
        :param options: options of the client, before those that are always given.
        :param terminal: whether the server is asked for a terminal, even if there is none here.
        :param port: the port of something else that leads to the server; 0 for the server's.
        """
        by_key = ("-oBatchMode=yes", "-i", str(self.key(key or user)))
        elsewhere = ("-o", f"HostKeyAlias=[127.0.0.1]:{self.port}") if port else ()
        variables = [f"HOME={self.home_folder}"]
        if password:
            ask = self.path("askpass")
            ask.write_text('#!/bin/sh\nprintf "%s\\n" "$PASSWORD"\n')
            ask.chmod(0o700)
            variables += [f"SSH_ASKPASS={ask}", f"PASSWORD={password}", "SSH_ASKPASS_REQUIRE=force"]
        return (
            *(() if terminal else NOT_ASKED),
            *("env", "-u", "SSH_AUTH_SOCK", *variables, "ssh", *options),
            "-tt" if terminal else "-T",
            *("-F", "none", "-p", str(port or self.port), *elsewhere),
            *("-o", f"UserKnownHostsFile={self.known_hosts}", "-oGlobalKnownHostsFile=none"),
            *("-oStrictHostKeyChecking=yes", "-oIdentityAgent=none", "-oIdentitiesOnly=yes"),
            *(by_key if key is not None else ("-oPubkeyAuthentication=no",)),
            "-oNumberOfPasswordPrompts=1",
            *(f"{user}@127.0.0.1", *command),
        )

    def plink(
        self,
        user: str,
        *command: str,
        key: str | None = "",
        password: str = "",
        options: tuple[str, ...] = (),
        terminal: bool = False,
    ) -> tuple[str, ...]:
        """Return the command line of plink; see ``ssh``."""
        by_key = () if key is None else ("-i", str(self._converted(key or user, "plink")))
        return (
            *("env", f"HOME={self.home_folder}", "plink", "-ssh", "-batch", *options),
            *(() if "-agent" in options else ("-noagent",)),
            *("-P", str(self.port), "-hostkey", self.ssh_fingerprint, *by_key),
            *(("-pw", password) if password else ()),
            *("-t" if terminal else "-T", "-l", user, "127.0.0.1", *command),
        )

    def dbclient(
        self,
        user: str,
        *command: str,
        key: str | None = "",
        password: str = "",
        terminal: bool = False,
    ) -> tuple[str, ...]:
        """Return the command line of dbclient; see ``ssh``. It asks nobody for a password, and
        tries a wrong one until the server disconnects it.
        """
        by_key = () if key is None else ("-i", str(self._converted(key or user, "dbclient")))
        variables = (f"HOME={self.home_folder}", f"DROPBEAR_PASSWORD={password}")
        return (
            *(() if terminal else NOT_ASKED),
            *("env", "-u", "SSH_AUTH_SOCK", *variables, "dbclient"),
            *(
                "-t" if terminal else "-T",
                "-p",
                str(self.port),
                *by_key,
                f"{user}@127.0.0.1",
                *command,
            ),
        )

    def command(
        self, client: str, user: str, *command: str, key: str | None = "", password: str = ""
    ) -> tuple[str, ...]:
        """Return the command line of one of ``CLIENTS``; see ``ssh``."""
        lines = {"ssh": self.ssh, "plink": self.plink, "dbclient": self.dbclient}
        return lines[client](user, *command, key=key, password=password)

    def begin(self, *command: str, given: str = "") -> Process:
        """Start a command with ``given`` as its whole input."""
        process = self.process(*command)
        with contextlib.suppress(BrokenPipeError):
            process.write(given)
            process.end_input()
        return process

    def outcome(self, process: Process) -> tuple[int, str, str]:
        """Wait for the end of a process; return its exit code, output and standard error."""
        code = process.wait()
        error = [line.rstrip("\r") for line in process.err if not TOLD_BY_PLINK.match(line)]
        return code, "\n".join(process.out), "\n".join(error)

    def finish(self, *command: str, given: str = "") -> tuple[int, str, str]:
        """Run a command to its end."""
        return self.outcome(self.begin(*command, given=given))

    def agent(self, *keys: str) -> Path:
        """Start an agent with keys; return its socket."""
        path = self.path("agent")
        agent = self.process("ssh-agent", "-D", "-a", str(path))
        agent.wait_for("SSH_AUTH_SOCK=")
        files = [str(self.key(key)) for key in keys]
        code, _, error = self.finish("env", f"SSH_AUTH_SOCK={path}", "ssh-add", "-q", *files)
        self.assertEqual(code, 0, error)
        return path

    # Terminals

    def ssh_terminal(
        self,
        user: str,
        *command: str,
        key: str | None = "",
        name: str = "",
        options: tuple[str, ...] = (),
        term: str = "screen-256color",
        **variables: str,
    ) -> Terminal:
        """Run OpenSSH on a new terminal."""
        line = self.ssh(user, *command, key=key, options=options, terminal=True)
        return self.run_on_terminal(name or user, *line, term=term, **variables)

    def talk_by_ssh(self, user: str, **more: str | tuple[str, ...]) -> Terminal:
        """Log in on a terminal, and wait for the prompt."""
        terminal = self.ssh_terminal(user, **more)
        terminal.see(rf"^· You are {user} on ")
        terminal.see(r"\bALL>\Z")
        return terminal


def client_of(terminal: Terminal) -> int:
    """Return the process ID of the program on a terminal, which the shell there has started."""
    shell = terminal.tell("#{pane_pid}")
    return int(Path(f"/proc/{shell}/task/{shell}/children").read_text())


@contextlib.contextmanager
def stopped(pid: int):
    """Stop a process, which then reads and answers nothing, until the end of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        stat = Path(f"/proc/{pid}/stat")
        wait_until(lambda: ") T " in stat.read_text(), lambda: f"{pid} goes on")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def starts_until(peer: Peer, last: str) -> list[str]:
    """Return the start lines of the frames up to the first one that is ``last``."""
    starts = [peer.frame()[0]]
    while starts[-1] != last:
        starts.append(peer.frame()[0])
    return starts


def quoted(command: tuple[str, ...]) -> str:
    """Return a command line as a shell reads it."""
    return shlex.join(command)
