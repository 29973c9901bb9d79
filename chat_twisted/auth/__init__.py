"""Authentication: keys, passwords, and the gate that verifies them."""
