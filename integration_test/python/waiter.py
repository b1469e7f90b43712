"""Awaits a future: a receive handle that came from anywhere. With --timeout it gives up waiting; the value may come later."""

import queue_pb2 as pb

from common import command_line, connect, print_pipe


def main():
    parser = command_line(__doc__)
    parser.add_argument("--handle", required=True, metavar="TOKEN", help="the receive handle")
    parser.add_argument("--from", dest="first", type=int, default=1, metavar="N", help="the first reply wanted")
    parser.add_argument("--timeout", type=float, default=None, help="seconds to wait")
    options = parser.parse_args()

    stub, metadata = connect(options)
    request = pb.ReceiveRequest(handle=pb.Handle(token=options.handle), from_sequence=options.first)
    print_pipe(stub.Receive(request, metadata=metadata, timeout=options.timeout))


if __name__ == "__main__":
    main()
