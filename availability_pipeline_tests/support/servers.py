"""The HTTP server that the tests' own servers are made of."""

import sys
from http.server import ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Says nothing of a client that went away, which many tests have it do.

    `socketserver` would print the traceback, and to print one Python 3.11 parses source, in the
    server's thread: a test that parses meanwhile fails ("AST constructor recursion depth
    mismatch", https://github.com/python/cpython/issues/106905).
    """

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Any other error is one of the test."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
