"""``python -m chat_twisted.client``: makes the process fit for the reactor, then runs the command.

What takes time to import is imported in here, so that Ctrl-C is as quiet then as it is later.
"""

import os


def _open_standard_files() -> None:
    """Put /dev/null in the place of each standard file that the process was started without.

    The reactor's own descriptors would get their numbers, and be taken for standard output.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def run() -> None:
    """Run the command; exit with its code."""
    try:
        _open_standard_files()
        from chat_twisted.client.arguments import Mode, parse

        arguments = parse()
        if arguments.mode is Mode.SCREEN:
            from twisted.internet import asyncioreactor

            asyncioreactor.install()  # which is the one that prompt_toolkit runs in

        from twisted.internet.task import react

        from chat_twisted.client.command import main

        react(main, [arguments])
    except KeyboardInterrupt:  # before the reactor takes it
        raise SystemExit(130) from None  # pipe.INTERRUPTED, which may not be imported yet


if __name__ == "__main__":
    run()
