"""Calls and consumes on one Session stream: many operations in a frame, many results in a frame.

It calls a queue COUNT times, all calls in one frame, and answers the deliveries itself, all that came in one frame
with one frame. Every call's answer is checked.
"""

import queue

import grpc
import queue_pb2 as pb

from common import command_line, connect, emit, print_status

CONSUME = 1  # the id of the Consume operation; the calls follow it
CREDIT_STEP = 1 << 20  # of the 4 MiB that the server may send at first, give back in steps of 1 MiB


class Session:
    def __init__(self, options):
        self.options = options
        self.outbox = queue.SimpleQueue()  # frames to send; None ends the stream
        self.next_id = CONSUME + 1
        self.calls = {}  # operation id: payload
        self.answers = {}  # operation id: payload of the reply
        self.ended = 0
        self.replies = set()  # operation ids of replies under way
        self.largest_frame = 0
        self.received = 0  # bytes for which no credit was given back

    def run(self):
        stub, metadata = connect(self.options)
        self.begin()
        try:
            for frame in stub.Session(iter(self.outbox.get, None), metadata=metadata):
                if frame.HasField("hello"):
                    emit("hello", protocol_version=frame.hello.protocol_version, tenant=frame.hello.tenant)
                self.largest_frame = max(self.largest_frame, len(frame.results))
                self.received += frame.ByteSize()
                self.take(frame.results)
            emit("done", calls=self.ended, right=self.right(), largest_frame=self.largest_frame)
            emit("status", code="OK")
        except grpc.RpcError as error:
            print_status(error)

    def begin(self):
        """The first frame: hello, one Consume and all the calls."""
        frame = pb.SessionRequest(hello=pb.Hello(protocol_version=1, client_name="session.py"))
        frame.operations.add(id=CONSUME).consume.CopyFrom(
            pb.ConsumeRequest(queues=[self.options.queue], max_in_flight=100))
        for number in range(self.options.count):
            operation = frame.operations.add(id=self.take_id())
            payload = f"canary call {number}".encode()
            operation.call.CopyFrom(pb.CallRequest(queue=self.options.queue, message=pb.Message(payload=payload)))
            self.calls[operation.id] = payload
        self.outbox.put(frame)

    def take(self, results):
        """One frame of results: deliveries to answer, answers to calls, outcomes of replies."""
        frame = pb.SessionRequest()
        for result in results:
            which = result.WhichOneof("response")
            if which == "error":
                emit("status", code=result.error.code, reason=result.error.reason, field=result.error.field)
            elif which == "consume" and result.consume.HasField("delivery"):
                delivery = result.consume.delivery
                operation = frame.operations.add(id=self.take_id())
                operation.reply.CopyFrom(pb.ReplyRequest(
                    handle=delivery.message.reply_to, payload=delivery.message.payload.upper(),
                    lease=delivery.lease, ack=True))
                self.replies.add(operation.id)
            elif which == "call" and result.call.HasField("reply"):
                self.answers[result.id] = result.call.reply.payload
            elif which == "call" and result.call.HasField("end"):
                self.ended += 1
            elif which == "reply":
                self.replies.discard(result.id)
        if self.received >= CREDIT_STEP:
            frame.credits.add(bytes=self.received)
            self.received = 0
        if frame.operations or frame.credits:
            self.outbox.put(frame)
        if self.ended == len(self.calls) and not self.replies:
            # All is answered: leave the Consume, and close this side of the stream.
            self.outbox.put(pb.SessionRequest(detach=[CONSUME]))
            self.outbox.put(None)

    def take_id(self):
        self.next_id += 1
        return self.next_id - 1

    def right(self):
        return sum(self.answers.get(id) == payload.upper() for id, payload in self.calls.items())


def main():
    parser = command_line(__doc__)
    parser.add_argument("--queue", required=True)
    parser.add_argument("--count", type=int, default=100)
    Session(parser.parse_args()).run()


if __name__ == "__main__":
    main()
