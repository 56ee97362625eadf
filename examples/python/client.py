"""The connection that both programs use, and the reason of an error. The commands in README.md make gen/."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "gen"))

import grpc


def connect():
    # No window is set here: the C core beneath Python's gRPC sizes its windows itself, and 2 KiB records come no faster
    # with grpc.http2.lookahead_bytes. What limits is Python.
    return grpc.insecure_channel(os.environ.get("MILLRACE_ADDRESS", "127.0.0.1:50051"))


def reason(error):
    """The reason of an error, one of docs/errors.md; "" for an error without one."""
    return dict(error.trailing_metadata() or ()).get("millrace-reason", "")
