"""A client's side of TLS in memory, with key updates, for which pyOpenSSL has no function."""

from __future__ import annotations

import _ssl
import ctypes
from ctypes import byref, c_int, c_long, c_size_t, c_void_p, create_string_buffer

_library = ctypes.CDLL(_ssl.__file__)  # it is linked with libssl
_RESULTS = {
    "TLS_client_method": c_void_p,
    "SSL_CTX_new": c_void_p,
    "SSL_CTX_free": None,
    "SSL_CTX_ctrl": c_long,
    "SSL_new": c_void_p,
    "SSL_free": None,
    "BIO_s_mem": c_void_p,
    "BIO_new": c_void_p,
    "BIO_ctrl": c_long,
    "SSL_set_bio": None,
    "SSL_set_connect_state": None,
}


def _call(name: str, *arguments: object) -> int:
    function = getattr(_library, name)
    function.restype = _RESULTS.get(name, c_int)
    return function(*[c_void_p(a) if type(a) is int else a for a in arguments])


class OpenSSLClient:
    """One connection: ``give`` takes received bytes, ``take`` returns bytes to send."""

    def __init__(self) -> None:
        self._context = _call("SSL_CTX_new", _call("TLS_client_method"))
        self._ssl = _call("SSL_new", self._context)
        self._in, self._out = (_call("BIO_new", _call("BIO_s_mem")) for _ in range(2))
        for bio in (self._in, self._out):
            _call("BIO_ctrl", bio, c_int(130), c_long(-1), None)  # empty is not the end
        _call("SSL_set_bio", self._ssl, self._in, self._out)
        _call("SSL_set_connect_state", self._ssl)

    def close(self) -> None:
        _call("SSL_free", self._ssl)
        _call("SSL_CTX_free", self._context)

    def connect(self) -> None:
        """Continue the handshake."""
        _call("SSL_do_handshake", self._ssl)

    def give(self, data: bytes) -> None:
        _call("BIO_write", self._in, data, c_int(len(data)))

    def take(self) -> bytes:
        buffer = create_string_buffer(1 << 20)
        size = _call("BIO_read", self._out, buffer, c_int(len(buffer)))
        return buffer.raw[: max(0, size)]

    def write(self, data: bytes) -> None:
        written = c_size_t()
        assert _call("SSL_write_ex", self._ssl, data, c_size_t(len(data)), byref(written)) == 1

    def read(self) -> bytes:
        """Return the decrypted bytes from the server."""
        buffer, found = create_string_buffer(1 << 20), b""
        while (size := _call("SSL_read", self._ssl, buffer, c_int(len(buffer)))) > 0:
            found += buffer.raw[:size]
        return found

    def change_keys(self) -> None:
        """Update the keys, and request that the server updates its own."""
        assert _call("SSL_key_update", self._ssl, c_int(1)) == 1
        assert _call("SSL_do_handshake", self._ssl) == 1
