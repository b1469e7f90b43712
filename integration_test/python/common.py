"""What the programs of this folder share: the command line, the connection, and one line of JSON for each event.

The stubs come from api/queue.proto alone, by one command in any folder that is in PYTHONPATH:

    python -m grpc_tools.protoc -I api --python_out=. --grpc_python_out=. api/queue.proto
"""

import argparse
import base64
import json
import sys

import grpc
import queue_pb2 as pb
import queue_pb2_grpc


def command_line(description):
    """Returns a parser with the options that all programs have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--server", default="127.0.0.1:7420", help="host and port")
    parser.add_argument("--key", default="", help="API key, if the server wants one")
    return parser


def connect(options):
    """Returns the stub, and the metadata to pass to its calls."""
    channel = grpc.insecure_channel(options.server)
    metadata = [("authorization", "Bearer " + options.key)] if options.key else []
    return queue_pb2_grpc.QueueServiceStub(channel), metadata


def emit(event, **fields):
    """Prints one event, in one piece: threads may do so at the same time."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def tokens(handles):
    """Turns a map of handles into what JSON can hold: a handle is its token, a string."""
    return {name: handle.token for name, handle in handles.items()}


def named(arguments):
    """Turns NAME=TOKEN arguments into a map of handles."""
    pairs = (argument.split("=", 1) for argument in arguments)
    return {name: pb.Handle(token=token) for name, token in pairs}


def short(enum, number):
    """Returns the name of an enum's value without the enum's own: END_REASON_OK is OK."""
    prefix = {pb.EndReason: "END_REASON_", pb.ReplyOutcome: "REPLY_OUTCOME_"}[enum]
    return enum.Name(number).removeprefix(prefix)


def print_pipe(call, on_reply=None, **more):
    """Prints what comes on the stream of a Call or a Receive, up to its status."""
    try:
        for response in call:
            print_event(response, on_reply, **more)
        emit("status", code="OK", **more)
    except grpc.RpcError as error:
        print_status(error, **more)


def print_event(response, on_reply=None, **more):
    """Prints one event of a Call or a Receive: a CallResponse or a ReceiveResponse."""
    which = response.WhichOneof("event")
    if which == "receipt":
        print_receipt(response.receipt, **more)
    elif which == "attached":
        emit("attached", sequence=response.attached.next_sequence, **more)
    elif which == "reply":
        reply = response.reply
        emit("reply", sequence=reply.sequence, payload=reply.payload.decode(), attempt=reply.attempt,
             handles=tokens(reply.handles), **more)
        if on_reply:
            on_reply(reply)
    elif which == "end":
        end = response.end
        emit("end", reason=short(pb.EndReason, end.reason), sequence=end.last_sequence,
             error=as_dict(end.error) if end.HasField("error") else None, **more)


def print_receipt(receipt, **more):
    emit("receipt", message_id=receipt.message_id, receive_handle=receipt.receive_handle.token, **more)


def as_dict(error):
    """Turns the message Error into what JSON can hold."""
    details = [{"type": any.type_url, "value": base64.b64encode(any.value).decode()} for any in error.details]
    return {"code": error.code, "reason": error.reason, "message": error.message, "field": error.field,
            "metadata": dict(error.metadata), "details": details}


def print_status(error, **more):
    """Prints how a call failed, from the trailers that need no types of Google's, and from those that do."""
    trailers = dict(error.trailing_metadata() or ())
    emit("status", code=error.code().name, message=error.details(), reason=trailers.get("replyq-reason", ""),
         field=trailers.get("replyq-field", ""), rich=rich_status(trailers.get("grpc-status-details-bin")), **more)


def rich_status(encoded):
    """Reads grpc-status-details-bin, as the package grpcio-status would."""
    if encoded is None:
        return None
    import status_pb2  # made of status.proto beside this file
    status = status_pb2.Status.FromString(encoded)
    rich = {"code": status.code}
    info, bad = status_pb2.ErrorInfo(), status_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(info):
            rich["reason"], rich["domain"] = info.reason, info.domain
        elif detail.Unpack(bad):
            rich["field"] = bad.field_violations[0].field
    return rich
