"""The keys of the prompt, made once for all terminals of the process.

A key's function finds the terminal by the layout that has the key's application. This module must
not know how anything is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Protocol

from prompt_toolkit.application import get_app
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import (
    Condition,
    Filter,
    buffer_has_focus,
    emacs_mode,
    has_focus,
    vi_navigation_mode,
)
from prompt_toolkit.key_binding import KeyBindings, KeyBindingsBase, KeyPressEvent
from prompt_toolkit.key_binding.bindings.basic import load_basic_bindings
from prompt_toolkit.key_binding.bindings.emacs import (
    load_emacs_bindings,
    load_emacs_search_bindings,
    load_emacs_shift_selection_bindings,
)
from prompt_toolkit.key_binding.bindings.named_commands import get_by_name
from prompt_toolkit.key_binding.bindings.vi import load_vi_bindings, load_vi_search_bindings
from prompt_toolkit.key_binding.key_bindings import ConditionalKeyBindings, merge_key_bindings
from prompt_toolkit.layout import Layout
from prompt_toolkit.layout.containers import AnyContainer
from prompt_toolkit.layout.layout import FocusableElement

Handler = Callable[[KeyPressEvent], None]

LOCAL_COMMANDS = (
    "start-kbd-macro",
    "end-kbd-macro",
    "call-last-kbd-macro",
    "print-last-kbd-macro",
    "operate-and-get-next",
)
"""Commands of the library that only the users of this machine have. A macro can call itself without
an end, and the recording of a macro has no size limit."""


class View(Protocol):
    """The part of a view that keys use."""

    def take(self, line: str) -> str:
        """Handle a typed line; return the text that stays in the input, which may be empty."""

    def next_unread(self) -> None:
        """Turn to the next conversation that has something unread."""

    def turn_to(self, number: int) -> None:
        """Turn to a conversation by its number in the prompt."""

    def toggle_view(self) -> None:
        """Show the current conversation alone, or all."""

    def send_again(self) -> None:
        """Send the refused messages again."""

    def drop(self) -> None:
        """Drop the refused messages."""


class Target(Protocol):
    """The terminal that the keys of a prompt are for."""

    @property
    def view(self) -> View:
        """The view that is shown."""

    @property
    def is_asking(self) -> bool:
        """Whether a question is in the place of the prompt."""

    def answer(self, text: str) -> None:
        """Answer the question."""

    def clear_or_leave(self) -> None:
        """Clear the input; leave if that was done just before."""

    def complete(self, step: int) -> None:
        """Complete the word before the cursor, in one direction or the other."""

    def open_reader(self) -> None:
        """Read back in the conversation."""

    def edit(self, buffer: Buffer) -> None:
        """Edit the input in the user's editor."""


class KeyLayout(Layout):
    """A layout with the keys that are active while it is shown.

    :ivar bindings: the keys.
    """

    def __init__(
        self, container: AnyContainer, focused: FocusableElement, bindings: KeyBindings
    ) -> None:
        super().__init__(container, focused)
        self.bindings = bindings


class PromptLayout(KeyLayout):
    """The layout of a prompt.

    :ivar target: the terminal that has it.
    """

    target: Target


def _target() -> Target:
    layout = get_app().layout
    assert isinstance(layout, PromptLayout)
    return layout.target


def _merge(*bindings: KeyBindingsBase) -> KeyBindings:
    """Return one list of key bindings, so that there is one table in which a key is looked up."""
    merged = KeyBindings()
    merged.bindings.extend(merge_key_bindings(bindings).bindings)
    return merged


@cache
def editing_keys(*, vi: bool, local: bool) -> KeyBindings:
    """Return the library's keys for editing a line.

    :param vi: the keys of vi, instead of those of Emacs.
    :param local: whether the user may use this machine.
    """
    if vi:
        keys = _merge(load_basic_bindings(), load_vi_bindings(), load_vi_search_bindings())
    else:
        keys = _merge(
            load_basic_bindings(),
            load_emacs_bindings(),
            load_emacs_search_bindings(),
            load_emacs_shift_selection_bindings(),
        )
    bindings = KeyBindings()
    if local:

        @bindings.add("c-z")
        def _(event: KeyPressEvent) -> None:
            event.app.suspend_to_background()

    else:
        denied = {get_by_name(name).handler for name in LOCAL_COMMANDS}
        keys.bindings[:] = [one for one in keys.bindings if one.handler not in denied]

        @bindings.add("c-z")
        def _(event: KeyPressEvent) -> None:
            """Do nothing: the library inserts a control character."""

    return _merge(keys, bindings)


def reading_keys(bindings: KeyBindings, *, vi: bool, local: bool) -> KeyBindings:
    """Return ``bindings`` with the keys for editing where a text can be typed."""
    return _merge(
        ConditionalKeyBindings(editing_keys(vi=vi, local=local), buffer_has_focus), bindings
    )


@cache
def prompt_keys(*, vi: bool, local: bool) -> KeyBindings:
    """Return the keys of the prompt; the parameters are those of ``editing_keys``."""
    bindings = KeyBindings()
    buffer = has_focus(DEFAULT_BUFFER)  # not in a search
    asking = Condition(lambda: _target().is_asking)
    empty = Condition(lambda: not get_app().current_buffer.text)

    def key(
        *keys: str, filter: Filter = ~asking & buffer, eager: bool = False
    ) -> Callable[[Handler], Handler]:
        return bindings.add(*keys, filter=filter, eager=eager)

    @key("enter", filter=buffer)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @key("c-c", filter=asking & buffer, eager=True)
    @key("c-d", filter=asking & buffer & empty, eager=True)
    def _(event: KeyPressEvent) -> None:
        _target().answer("")

    @key("enter", filter=asking & buffer)
    def _(event: KeyPressEvent) -> None:
        _target().answer(event.current_buffer.text)

    @key("tab", filter=asking)
    @key("s-tab", filter=asking)
    @key("pageup", filter=asking)
    @key("pagedown", filter=buffer)
    def _(event: KeyPressEvent) -> None:
        """Do nothing: the library has other uses for these keys."""

    @key("c-c", eager=True)
    def _(event: KeyPressEvent) -> None:
        _target().clear_or_leave()

    @key("c-d", filter=~asking & buffer & empty, eager=True)
    def _(event: KeyPressEvent) -> None:
        _target().view.take("/quit")

    @key("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @key("tab", filter=~asking & buffer & ~vi_navigation_mode)
    def _(event: KeyPressEvent) -> None:
        _target().complete(1)

    @key("s-tab", filter=~asking & buffer & ~vi_navigation_mode)
    def _(event: KeyPressEvent) -> None:
        _target().complete(-1)

    @key("pageup")
    def _(event: KeyPressEvent) -> None:
        _target().open_reader()

    @key("escape", "a", filter=~asking & buffer & emacs_mode)
    @key("f6")
    def _(event: KeyPressEvent) -> None:
        _target().view.next_unread()

    @key("escape", "v", filter=~asking & buffer & emacs_mode)
    @key("f7")
    def _(event: KeyPressEvent) -> None:
        _target().view.toggle_view()

    for digit in "123456789":

        @key("escape", digit, filter=~asking & buffer & emacs_mode)
        def _(event: KeyPressEvent) -> None:
            _target().view.turn_to(int(event.key_sequence[-1].key))

    @key("f5", filter=buffer)
    def _(event: KeyPressEvent) -> None:
        _target().view.send_again()

    @key("f8", filter=buffer)
    def _(event: KeyPressEvent) -> None:
        _target().view.drop()

    if local:

        @key("c-x", "c-e", filter=~asking & buffer & emacs_mode)
        @key("v", filter=~asking & buffer & vi_navigation_mode)
        def _(event: KeyPressEvent) -> None:
            _target().edit(event.current_buffer)

    return _merge(editing_keys(vi=vi, local=local), bindings)
