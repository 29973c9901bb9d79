"""The logger: values from others can't act on a terminal that shows the log."""

from __future__ import annotations

from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from chat_twisted.logs import Logger


class Speaker:
    log = Logger()


class LoggerTests(TestCase):
    def test_values_are_made_printable_and_an_entry_is_one_line(self) -> None:
        seen: list[dict[str, object]] = []
        globalLogPublisher.addObserver(seen.append)
        self.addCleanup(globalLogPublisher.removeObserver, seen.append)
        Speaker().log.info("{user} from {peer}: {n}", user="a\x1b[2J\nb", peer="\u202e", n=1)
        (event,) = (event for event in seen if event["log_namespace"] == f"{__name__}.Speaker")
        self.assertEqual(formatEvent(event), "a␛[2J␊b from \ufffd: 1")
