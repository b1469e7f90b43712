"""Puts a message on a queue. With --wait it stays for the answers; with --pipe it takes the future and leaves."""

import grpc
import queue_pb2 as pb

from common import command_line, connect, emit, named, print_pipe, print_receipt, print_status, short


def main():
    parser = command_line(__doc__)
    parser.add_argument("--queue", required=True)
    parser.add_argument("--payload", default="")
    parser.add_argument("--reply-to", default="", help="send handle, for answers to somebody else")
    parser.add_argument("--handle", action="append", default=[], metavar="NAME=TOKEN", help="travels with the message")
    parser.add_argument("--pipe", action="store_true", help="have a pipe opened, and print its receive handle")
    parser.add_argument("--wait", action="store_true", help="wait for the answers")
    parser.add_argument("--grace", type=float, default=10, help="seconds that the answers wait if this program is cut")
    parser.add_argument("--follow", default="", metavar="NAME", help="await the future that a reply carries under this name")
    parser.add_argument("--confirm", default="", metavar="NAME", help="reply through the handle that a reply carries so")
    options = parser.parse_args()

    stub, metadata = connect(options)
    message = pb.Message(payload=options.payload.encode(), handles=named(options.handle))
    if options.reply_to:
        message.reply_to.token = options.reply_to
    if not options.wait:
        try:
            request = pb.EnqueueRequest(queue=options.queue, message=message)
            if options.pipe:
                request.pipe.SetInParent()
            print_receipt(stub.Enqueue(request, metadata=metadata).receipt)
        except grpc.RpcError as error:
            print_status(error)
        return

    futures = []

    def on_reply(reply):
        if options.follow in reply.handles:
            futures.append(reply.handles[options.follow])
        if options.confirm in reply.handles:
            request = pb.ReplyRequest(handle=reply.handles[options.confirm], payload=b"confirmed")
            result = stub.Reply(request, metadata=metadata).result
            emit("outcome", outcome=short(pb.ReplyOutcome, result.outcome), sequence=result.sequence)

    request = pb.CallRequest(queue=options.queue, message=message)
    request.pipe.disconnect_grace.FromMilliseconds(int(options.grace * 1000))
    print_pipe(stub.Call(request, metadata=metadata), on_reply)
    for future in futures:
        print_pipe(stub.Receive(pb.ReceiveRequest(handle=future), metadata=metadata))


if __name__ == "__main__":
    main()
