"""The asyncio loop over the reactor: callbacks, timers, tasks, readers, threads, prompt_toolkit."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chat_twisted import reactor_loop
from chat_twisted.reactor_loop import SHARE

VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="nothing")


class Reactor(MemoryReactorClock):
    """A reactor whose turns are the test's."""

    def __init__(self) -> None:
        super().__init__()
        self.from_threads: list[Callable[[], object]] = []

    def callFromThread(self, call: Callable[..., object], *args: object) -> None:
        self.from_threads.append(lambda: call(*args))

    def callInThread(self, call: Callable[..., object], *args: object) -> None:
        thread = threading.Thread(target=call, args=args)
        thread.start()
        thread.join()

    def turn(self) -> None:
        """Make the calls that are due, but not those that they schedule."""
        calls, self.from_threads = self.from_threads, []
        for call in calls:
            call()
        for due in [due for due in self.getDelayedCalls() if due.getTime() <= self.seconds()]:
            self.calls.remove(due)
            due.called = 1
            due.func(*due.args, **due.kw)

    def turns(self) -> None:
        """Make turns until nothing is due."""
        while self.from_threads or any(due.getTime() <= self.seconds() for due in self.calls):
            self.turn()


class LoopTestCase(TestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.loop = reactor_loop.use(self.reactor)
        self.addCleanup(reactor_loop.leave)
        self.called: list[object] = []


class UseTests(TestCase):
    def tearDown(self) -> None:
        reactor_loop.leave()
        self.assertIsNone(asyncio._get_running_loop())

    def test_the_loop_of_the_first_call_runs_whatever_the_reactor_does(self) -> None:
        reactor, seen = Clock(), []
        loop = reactor_loop.use(reactor)
        self.assertIs(reactor_loop.use(reactor), loop)
        reactor.callLater(1, lambda: seen.append(asyncio.get_running_loop()))
        reactor.advance(1)
        self.assertEqual(seen, [loop])
        self.assertTrue(loop.is_running())
        self.assertFalse(loop.is_closed())

    def test_it_is_that_of_one_thread(self) -> None:
        seen: list[object] = []
        reactor_loop.use(Clock())
        thread = threading.Thread(target=lambda: seen.append(asyncio._get_running_loop()))
        thread.start()
        thread.join()
        self.assertEqual(seen, [None])

    def test_a_running_loop_of_asyncio_stays(self) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            self.assertIs(reactor_loop.use(Clock()), loop)
            self.assertIs(asyncio.get_running_loop(), loop)
            reactor_loop.leave()
            self.assertIs(asyncio.get_running_loop(), loop)

        asyncio.run(main())

    def test_the_asyncio_reactor_has_its_own_before_it_runs(self) -> None:
        reactor = AsyncioSelectorReactor.__new__(AsyncioSelectorReactor)
        reactor._asyncioEventloop = object()
        self.assertIs(reactor_loop.use(reactor), reactor._asyncioEventloop)
        self.assertIsNone(asyncio._get_running_loop())


class CallbackTests(LoopTestCase):
    def test_callbacks_run_in_their_order_in_the_next_turn(self) -> None:
        def first() -> None:
            self.called.append(1)
            self.loop.call_soon(self.called.append, 3)

        self.loop.call_soon(first)
        self.loop.call_soon(self.called.append, 2)
        self.assertEqual(self.called, [])
        self.reactor.turn()
        self.assertEqual(self.called, [1, 2])
        self.reactor.turn()
        self.assertEqual(self.called, [1, 2, 3])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_many_of_them_need_one_call_of_the_reactor(self) -> None:
        for number in range(10):
            self.loop.call_soon(self.called.append, number)
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)

    def test_a_cancelled_one_does_not_run(self) -> None:
        handles = [self.loop.call_soon(self.called.append, number) for number in range(3)]
        handles[1].cancel()
        self.reactor.turn()
        self.assertEqual(self.called, [0, 2])

    def test_those_that_take_long_run_in_several_turns(self) -> None:
        def work(number: int) -> None:
            self.called.append(number)
            self.reactor.rightNow += SHARE / 2

        for number in range(5):
            self.loop.call_soon(work, number)
        for called in (2, 4, 5):
            self.reactor.turn()
            self.assertEqual(self.called, list(range(called)))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_fault_is_logged_without_arguments_and_the_others_run(self) -> None:
        def fault(text: str) -> None:
            raise ValueError

        self.loop.call_soon(fault, "a message")
        self.loop.call_soon(self.called.append, 2)
        self.reactor.turn()
        self.assertEqual(self.called, [2])
        [logged] = self.flushLoggedErrors(ValueError)
        self.assertNotIn("a message", logged.getTraceback())

    def test_one_that_exits_does_not_stop_the_others(self) -> None:
        def leave() -> None:
            raise SystemExit

        self.loop.call_soon(leave)
        self.loop.call_soon(self.called.append, 2)
        self.assertRaises(SystemExit, self.reactor.turn)  # Twisted logs it
        self.reactor.turn()
        self.assertEqual(self.called, [2])

    def test_context_variables_are_those_of_the_caller(self) -> None:
        def look() -> None:
            self.called.append(VARIABLE.get())

        read, write = os.pipe()
        self.addCleanup(os.close, read)
        self.addCleanup(os.close, write)
        token = VARIABLE.set("kept")
        self.loop.call_soon(look)
        self.loop.call_later(1, look)
        self.loop.call_soon_threadsafe(look)
        self.loop.add_reader(read, look)
        VARIABLE.reset(token)
        self.reactor.turn()
        self.reactor.advance(1)
        [reader] = self.reactor.getReaders()
        reader.doRead()
        self.assertEqual(self.called, ["kept"] * 4)

    def test_other_threads_wake_the_reactor(self) -> None:
        thread = threading.Thread(
            target=self.loop.call_soon_threadsafe, args=(self.called.append, 1)
        )
        thread.start()
        thread.join()
        self.assertEqual(self.reactor.getDelayedCalls(), [])  # which are not safe in threads
        self.reactor.turns()
        self.assertEqual(self.called, [1])


class TimerTests(LoopTestCase):
    def test_a_timer_is_due_at_its_time(self) -> None:
        self.reactor.rightNow = 100.0
        self.loop.call_later(2, self.called.append, "later")
        at = self.loop.call_at(101, self.called.append, "at")
        self.loop.call_at(99, self.called.append, "past")
        self.assertEqual(at.when(), 101)
        for now, called in ((100, ["past"]), (101, ["past", "at"]), (102, ["past", "at", "later"])):
            self.reactor.rightNow = now
            self.reactor.turns()
            self.assertEqual((self.loop.time(), self.called), (now, called))

    def test_a_cancelled_one_leaves_nothing_to_wake_up_for(self) -> None:
        timer = self.loop.call_later(2, self.called.append, 1)
        timer.cancel()
        timer.cancel()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        timer = self.loop.call_later(2, self.called.append, 1)
        self.reactor.rightNow = 2.0
        self.reactor.turn()  # it waits for its turn
        timer.cancel()
        self.reactor.turns()
        self.assertEqual(self.called, [])

    def test_neither_leaves_a_cycle_of_references(self) -> None:
        for end in (asyncio.TimerHandle.cancel, lambda _: self.reactor.advance(2)):
            timer = self.loop.call_later(2, self.called.append, 1)
            end(timer)
            gone = weakref.ref(timer)
            del timer
            self.assertIsNone(gone())


class TaskTests(LoopTestCase):
    def test_coroutines_wait_for_times_futures_and_tasks(self) -> None:
        future = self.loop.create_future()

        async def sleep() -> str:
            await asyncio.sleep(0)
            await asyncio.sleep(5)
            return "slept"

        async def main() -> list[object]:
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(1):
                    await asyncio.Event().wait()
            return [*await asyncio.gather(sleep(), future), asyncio.current_task()]

        task = asyncio.create_task(main(), name="main")
        self.reactor.turns()
        self.reactor.advance(1)
        future.set_result("set")
        self.reactor.advance(4.9)
        self.assertFalse(task.done())
        self.reactor.advance(0.1)
        self.assertEqual(task.result(), ["slept", "set", task])
        self.assertEqual(task.get_name(), "main")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_cancelled_task_ends(self) -> None:
        task = asyncio.ensure_future(asyncio.sleep(5))
        self.reactor.turns()
        task.cancel()
        self.reactor.turns()
        self.assertTrue(task.cancelled())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_fault_for_which_nobody_waits_is_logged(self) -> None:
        async def fault() -> None:
            raise ValueError

        task = asyncio.ensure_future(fault())
        self.reactor.turns()
        del task
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_problem_without_an_exception_is_logged(self) -> None:
        with capturedLogs() as logged:
            self.loop.call_exception_handler({"message": "a {problem}"})
        self.assertEqual([formatEvent(event) for event in logged], ["event loop: a {problem}"])


class ReaderTests(LoopTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.read, self.write = os.pipe()
        self.addCleanup(os.close, self.read)
        self.addCleanup(os.close, self.write)

    def only(self) -> Any:
        [reader] = self.reactor.getReaders()
        self.assertEqual(reader.fileno(), self.read)
        return reader

    def test_a_reader_is_called_until_it_is_removed(self) -> None:
        self.loop.add_reader(self.read, self.called.append, 1)
        for _ in range(2):
            self.assertIsNone(self.only().doRead())  # anything else is an error for Twisted
        self.assertEqual(self.called, [1, 1])
        self.assertTrue(self.loop.remove_reader(self.read))
        self.assertFalse(self.loop.remove_reader(self.read))
        self.assertEqual(self.reactor.getReaders(), [])

    def test_another_one_for_the_same_descriptor_replaces_it(self) -> None:
        self.loop.add_reader(self.read, self.called.append, 1)
        self.loop.add_reader(self.read, self.called.append, 2)
        self.only().doRead()
        self.assertEqual(self.called, [2])

    def test_it_is_called_at_the_end_too(self) -> None:
        self.loop.add_reader(self.read, self.called.append, 1)
        reader = self.only()
        self.reactor.removeReader(reader)
        reader.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.called, [1])

    def test_a_fault_in_it_is_logged_and_it_goes_on(self) -> None:
        self.loop.add_reader(self.read, [].pop)
        for _ in range(2):
            self.assertIsNone(self.only().doRead())
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 2)


class ThreadTests(LoopTestCase):
    def test_what_a_thread_returns_or_raises_is_the_result(self) -> None:
        async def main() -> None:
            thread = await self.loop.run_in_executor(None, threading.get_ident)
            self.assertNotEqual(thread, threading.get_ident())
            with self.assertRaises(IndexError):
                await self.loop.run_in_executor(None, [].pop)

        task = asyncio.ensure_future(main())
        self.reactor.turns()
        self.assertIsNone(task.result())

    def test_a_result_that_nobody_wants_any_more_is_dropped(self) -> None:
        future = self.loop.run_in_executor(None, len, "abc")
        future.cancel()
        self.reactor.turns()
        self.assertTrue(future.cancelled())


class PromptTests(LoopTestCase):
    def test_a_prompt_runs_in_it_and_an_idle_one_does_not_wake_up(self) -> None:
        with create_pipe_input() as input:
            session: PromptSession[str] = PromptSession(input=input, output=DummyOutput())
            session.app.terminal_size_polling_interval = None
            task = asyncio.ensure_future(
                session.prompt_async("> ", handle_sigint=False, set_exception_handler=False)
            )
            self.reactor.turns()
            for text in ("hel", "lo", "\r"):
                self.reactor.pump([1, 1])  # no more keys of a sequence are expected
                self.assertEqual(self.reactor.getDelayedCalls(), [])
                input.send_text(text)
                [reader] = self.reactor.getReaders()
                reader.doRead()
                self.reactor.turns()
            self.assertEqual(task.result(), "hello")
        self.assertEqual((self.reactor.getDelayedCalls(), self.reactor.getReaders()), ([], []))
