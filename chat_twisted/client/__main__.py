"""``python -m chat_twisted.client``: makes the process fit for the reactor, then runs the command.

What takes time to import is imported in here, so that Ctrl-C is as quiet then as it is later.
"""

import os
import signal


def _open_standard_files() -> None:
    """Put /dev/null in the place of each standard file that the process was started without.

    The reactor's own descriptors would get their numbers, and be taken for standard output.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _die_of(number: int) -> None:
    """End as the signal would have ended the process: a shell that hears of it ends its script."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def run() -> None:
    """Run the command; exit with its code, or by the signal that ended it."""
    code: object = 130  # pipe.INTERRUPTED, which may not be imported yet
    try:
        for number in (signal.SIGUSR1, signal.SIGUSR2):  # sent by mistake they would end it
            signal.signal(number, signal.SIG_IGN)
        _open_standard_files()
        from chat_twisted.client.arguments import Mode, parse

        arguments = parse()
        if arguments.mode is Mode.SCREEN:
            from twisted.internet import asyncioreactor

            asyncioreactor.install()  # which is the one that prompt_toolkit runs in

        from twisted.internet.task import react

        from chat_twisted.client.main import main

        react(main, [arguments])
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:  # before the reactor takes it
        pass
    if isinstance(code, int) and code > 128:
        _die_of(code - 128)
    raise SystemExit(code)


if __name__ == "__main__":
    run()
