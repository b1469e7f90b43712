"""Makes Calls and Receives, given as JSON, all at once, and prints everything that comes. Each event has the number of its
request. They go by plain RPC, each on a stream of its own, or as the operations of one Session.

    caller.py --face session --call '{"queue": "reports", "pipe": {"timeout": "5s"}}'
    caller.py --receive '{"handle": {"token": "qh1r_..."}}'
"""

import queue
import threading

import grpc
import queue_pb2 as pb
from google.protobuf import json_format

from common import command_line, connect, emit, print_event, print_pipe, print_status


def plain(stub, metadata, requests):
    """A stream for each: its status repeats the end."""
    def make(number, request):
        rpc = stub.Call if isinstance(request, pb.CallRequest) else stub.Receive
        print_pipe(rpc(request, metadata=metadata), number=number)

    threads = [threading.Thread(target=make, args=numbered) for numbered in enumerate(requests, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_session(stub, metadata, requests):
    """One operation for each, all in one frame. The last result of an operation has `done`; the session is closed when
    all have it, and a ping has come back: nothing may follow."""
    frame = pb.SessionRequest(hello=pb.Hello(protocol_version=1, client_name="caller.py"))
    for number, request in enumerate(requests, 1):
        what = "call" if isinstance(request, pb.CallRequest) else "receive"
        frame.operations.append(pb.Operation(id=number, **{what: request}))
    outbox = queue.SimpleQueue()  # frames to send; None ends the stream
    outbox.put(frame)
    left = len(requests)
    try:
        for frame in stub.Session(iter(outbox.get, None), metadata=metadata):
            for result in frame.results:
                print_result(result)
                left -= result.done
                if result.done and not left:
                    outbox.put(pb.SessionRequest(ping=1))
            if frame.pong:
                outbox.put(None)
        emit("status", code="OK")
    except grpc.RpcError as error:
        print_status(error)


def print_result(result):
    which = result.WhichOneof("response")
    if which == "error":
        emit("refused", code=result.error.code, reason=result.error.reason, field=result.error.field, number=result.id)
    else:
        print_event(getattr(result, which), number=result.id)
    if result.done:
        emit("done", number=result.id)


def main():
    def message(kind):
        return lambda text: json_format.Parse(text, kind())

    parser = command_line(__doc__)
    parser.add_argument("--face", choices=["plain", "session"], default="plain")
    parser.add_argument("--call", dest="requests", action="append", type=message(pb.CallRequest), metavar="JSON")
    parser.add_argument("--receive", dest="requests", action="append", type=message(pb.ReceiveRequest), metavar="JSON")
    options = parser.parse_args()

    stub, metadata = connect(options)
    (plain if options.face == "plain" else in_session)(stub, metadata, options.requests)


if __name__ == "__main__":
    main()
