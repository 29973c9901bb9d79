"""The files by which a node proves to a NATS server who it is."""

from __future__ import annotations

import base64
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted.storage.nats_client import (
    PasswordCredentials,
    SignedCredentials,
    read_credentials,
)

SEED = base64.b32encode(b"\x90\x00" + bytes(range(32)) + b"\0\0").decode()

SIGNED = f"""\
-----BEGIN NATS USER JWT-----
token
------END NATS USER JWT------

************************* IMPORTANT *************************

-----BEGIN USER NKEY SEED-----
{SEED}
------END USER NKEY SEED------
"""


class CredentialsTests(TestCase):
    def setUp(self) -> None:
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        self.path = Path(folder, "file")

    def read(self, text: str) -> object:
        self.path.write_text(text)
        return read_credentials(str(self.path))

    def test_a_line_is_a_user_and_a_password(self) -> None:
        for text, user, password in (
            ("chat:secret\n", "chat", "secret"),
            ("\ufeffchat:secret", "chat", "secret"),
            ("chat:a: b c\r\n", "chat", "a: b c"),
        ):
            found = self.read(text)
            self.assertEqual(found, PasswordCredentials(user, password))
            self.assertEqual(found.login, {"user": user, "password": password})

    def test_a_file_of_nats_has_a_token_and_a_key(self) -> None:
        found = self.read(SIGNED)
        assert isinstance(found, SignedCredentials)
        self.assertEqual(found.login["user_jwt_cb"](), b"token")
        signature = base64.b64decode(found.login["signature_cb"]("nonce"))
        found.key.public_key().verify(signature, b"nonce")
        self.assertEqual(found.key.private_bytes_raw(), bytes(range(32)))

    def test_another_file_is_an_error_that_does_not_tell_its_contents(self) -> None:
        for text in ("", "secret", "secret:", ":secret", "user:secret\nmore", SIGNED[:60]):
            with self.assertRaises(ValueError) as raised:
                self.read(text)
            self.assertEqual(
                str(raised.exception),
                f"{self.path}: neither a credentials file of NATS nor a line USER:PASSWORD",
            )
