#!/usr/bin/env python3
"""Prints the requests that arrive, headers and body, and answers 204. Verifies nothing: it is for trying things out."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Show(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        print(f"POST {self.path}\n{self.headers}{body.decode(errors='replace')}\n", flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


host, _, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8081").rpartition(":")
server = ThreadingHTTPServer((host, int(port)), Show)
print(f"listening on http://{host}:{server.server_port}", flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    pass
