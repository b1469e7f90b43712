"""Replies through a send handle that came from anywhere, knowing nothing of who waits."""

import grpc
import queue_pb2 as pb

from common import command_line, connect, emit, print_status, short


def main():
    parser = command_line(__doc__)
    parser.add_argument("--handle", required=True, metavar="TOKEN", help="the send handle")
    parser.add_argument("--payload", default="")
    parser.add_argument("--more", action="store_true", help="keep the pipe open for further replies")
    options = parser.parse_args()

    stub, metadata = connect(options)
    request = pb.ReplyRequest(handle=pb.Handle(token=options.handle), payload=options.payload.encode(), more=options.more)
    try:
        result = stub.Reply(request, metadata=metadata).result
    except grpc.RpcError as error:
        print_status(error)
        return
    reason = short(pb.EndReason, result.end_reason) if result.end_reason else ""
    emit("outcome", outcome=short(pb.ReplyOutcome, result.outcome), reason=reason, sequence=result.sequence)


if __name__ == "__main__":
    main()
