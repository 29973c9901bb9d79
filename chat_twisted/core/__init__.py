"""The core: the values and rules of the chat, without input or output."""
