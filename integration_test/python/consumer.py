"""Consumes a queue, and answers through the handles that the messages bring. What it does with a message is --do."""

import json

import grpc
import queue_pb2 as pb
from google.protobuf import wrappers_pb2

from common import command_line, connect, emit, print_status, short, tokens


class Consumer:
    def __init__(self, options):
        self.options = options
        self.stub, self.metadata = connect(options)

    def run(self):
        request = pb.ConsumeRequest(queues=[self.options.queue], max_in_flight=4)
        try:
            for event in self.stub.Consume(request, metadata=self.metadata):
                which = event.WhichOneof("event")
                if which == "started":
                    emit("started", consumer_id=event.started.consumer_id)
                elif which == "delivery":
                    self.work(event.delivery)
                elif which == "waiter_gone":
                    gone = event.waiter_gone
                    emit("waiter_gone", message_id=gone.message_id, reason=short(pb.EndReason, gone.reason))
                elif which == "lease_lost":
                    emit("lease_lost", message_id=event.lease_lost.message_id)
            emit("status", code="OK")
        except grpc.RpcError as error:
            print_status(error)

    def work(self, delivery):
        emit("delivery", message_id=delivery.message_id, attempt=delivery.attempt,
             payload=delivery.message.payload.decode(), reply_to=delivery.message.reply_to.token,
             handles=tokens(delivery.message.handles), ended_handles=list(delivery.ended_handles))
        getattr(self, self.options.do)(delivery)

    # What may be done with a message:

    def echo(self, delivery):
        """One reply, which ends the pipe and acks the delivery."""
        self.reply(delivery, payload=delivery.message.payload.decode().upper().encode(), ack=True)

    def stream(self, delivery):
        """Several replies, then an end."""
        for part in ("part 1", "part 2", "part 3"):
            self.reply(delivery, payload=part.encode(), more=True)
        self.reply(delivery, ack=True)

    def half(self, delivery):
        """One reply of several, and then it hangs."""
        self.reply(delivery, payload=b"half", more=True)

    def fail(self, delivery):
        """An error with everything that an error can have."""
        error = pb.Error(code=grpc.StatusCode.NOT_FOUND.value[0], reason="NO_SUCH_REPORT",
                         message="there is no report 7", metadata={"report": "7"})
        error.details.add().Pack(wrappers_pb2.StringValue(value="page 7"))
        self.reply(delivery, error=error, ack=True)

    def ack(self, delivery):
        """Done, without an answer."""
        self.stub.Settle(pb.SettleRequest(lease=delivery.lease), metadata=self.metadata)
        emit("settled")

    def hold(self, delivery):
        """Works for ever."""

    def promise(self, delivery):
        """Answers with a future, and says who holds the other end of it."""
        pipe = self.stub.OpenPipe(pb.OpenPipeRequest(), metadata=self.metadata)
        self.reply(delivery, payload=b"later", handles={"result": pipe.receive_handle}, ack=True)
        emit("promised", send_handle=pipe.send_handle.token)

    def splice(self, delivery):
        """Answers with another actor's future, so that the waiter just gets that one's value."""
        inner = pb.EnqueueRequest(queue=self.options.to, message=pb.Message(payload=delivery.message.payload))
        inner.pipe.SetInParent()
        receipt = self.stub.Enqueue(inner, metadata=self.metadata).receipt
        self.reply(delivery, splice=receipt.receive_handle, ack=True)

    def forward(self, delivery):
        """Passes the message on with its reply_to, and acks it, in one step: whoever gets it answers the waiter."""
        message = pb.Message(payload=delivery.message.payload, reply_to=delivery.message.reply_to)
        request = pb.SettleRequest(lease=delivery.lease,
                                   messages=[pb.EnqueueRequest(queue=self.options.to, message=message)])
        self.stub.Settle(request, metadata=self.metadata)
        emit("settled")

    def notify(self, delivery):
        """Replies through each handle of the message and of its JSON payload, and then answers."""
        document = json.loads(delivery.message.payload)
        for name, token in {**tokens(delivery.message.handles), **document}.items():
            request = pb.ReplyRequest(handle=pb.Handle(token=token), payload=("noted " + name).encode())
            self.outcome(self.stub.Reply(request, metadata=self.metadata))
        self.reply(delivery, payload=b"done", ack=True)

    def confirm(self, delivery):
        """Answers with a handle to reply through, and awaits the reply."""
        pipe = self.stub.OpenPipe(pb.OpenPipeRequest(), metadata=self.metadata)
        self.reply(delivery, payload=b"please confirm", handles={"confirm": pipe.send_handle}, ack=True)
        for response in self.stub.Receive(pb.ReceiveRequest(handle=pipe.receive_handle), metadata=self.metadata):
            if response.HasField("reply"):
                emit("confirmed", payload=response.reply.payload.decode())

    def reply(self, delivery, **fields):
        """Replies to whoever waits. The lease makes sure that nobody else has the message by now."""
        request = pb.ReplyRequest(handle=delivery.message.reply_to, lease=delivery.lease, **fields)
        self.outcome(self.stub.Reply(request, metadata=self.metadata))

    def outcome(self, response):
        result = response.result
        reason = short(pb.EndReason, result.end_reason) if result.end_reason else ""
        emit("outcome", outcome=short(pb.ReplyOutcome, result.outcome), reason=reason, sequence=result.sequence)


def main():
    parser = command_line(__doc__)
    parser.add_argument("--queue", required=True)
    parser.add_argument("--do", default="echo", help="a method of Consumer: echo, stream, fail, ack, hold, promise, ...")
    parser.add_argument("--to", default="", metavar="QUEUE", help="with splice and forward: where the work is done")
    Consumer(parser.parse_args()).run()


if __name__ == "__main__":
    main()
