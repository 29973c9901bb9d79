"""``python -m chat_twisted.client``: prepares the process for the reactor, then runs the command.

Slow imports are inside the functions, so that Ctrl-C during an import ends the program quietly.
"""

import os
import signal


def _open_standard_files() -> None:
    """Open /dev/null for each standard file that the process was started without.

    Otherwise the reactor's own descriptors could get the numbers of the standard files.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _die_of(number: int) -> None:
    """End the process by a signal, so that a shell which sees it also ends its script."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def run() -> None:
    """Run the command, then exit with its code or by the signal that ended it."""
    code: object = 130  # pipe.INTERRUPTED, which can't be imported yet
    try:
        # sent by mistake they would end the process
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        _open_standard_files()
        import chat_twisted.dependencies  # noqa: F401  ends the process if one is missing
        from chat_twisted.client.arguments import parse

        arguments = parse()
        from twisted.internet.task import react

        from chat_twisted.client.main import main

        react(main, [arguments])
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:  # before the reactor handles it
        pass
    if isinstance(code, int) and code > 128:
        _die_of(code - 128)
    raise SystemExit(code)


if __name__ == "__main__":
    run()
