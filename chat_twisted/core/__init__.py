"""What the chat is: values and rules, without input or output."""
