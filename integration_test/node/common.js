'use strict';
// What the programs of this folder share: the command line, the connection, and one line of JSON for each event.
// The stub is made of api/queue.proto alone, when the program starts.

const path = require('node:path');
const { parseArgs } = require('node:util');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const proto = process.env.REPLYQ_PROTO || path.join(__dirname, '..', '..', 'api', 'queue.proto');
const { v1 } = grpc.loadPackageDefinition(
  loader.loadSync(proto, { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true }),
).replyq;

// options reads the command line: those that all programs have, and the program's own.
function options(own) {
  const common = { server: { type: 'string', default: '127.0.0.1:7420' }, key: { type: 'string', default: '' } };
  return parseArgs({ options: { ...common, ...own } }).values;
}

// connect returns the stub, and the metadata to pass to its calls.
function connect({ server, key }) {
  const metadata = new grpc.Metadata();
  if (key) metadata.set('authorization', `Bearer ${key}`);
  return { stub: new v1.QueueService(server, grpc.credentials.createInsecure()), metadata };
}

// unary makes a promise of a unary call.
function unary({ stub, metadata }, method, request) {
  return new Promise((resolve, reject) => {
    stub[method](request, metadata, (error, response) => (error ? reject(error) : resolve(response)));
  });
}

// emit prints one event.
function emit(event, fields) {
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
}

// tokens turns a map of handles into what JSON can hold: a handle is its token, a string.
function tokens(handles) {
  return Object.fromEntries(Object.entries(handles || {}).map(([name, handle]) => [name, handle.token]));
}

// named turns NAME=TOKEN arguments into a map of handles.
function named(list) {
  return Object.fromEntries(list.map((argument) => {
    const at = argument.indexOf('=');
    return [argument.slice(0, at), { token: argument.slice(at + 1) }];
  }));
}

// short cuts an enum's own name off that of its value: END_REASON_OK is OK.
function short(name) {
  return name.replace(/^(END_REASON|REPLY_OUTCOME)_/, '').replace('UNSPECIFIED', '');
}

function printReceipt(receipt) {
  emit('receipt', { message_id: receipt.message_id, receive_handle: receipt.receive_handle?.token || '' });
}

function printOutcome(result) {
  emit('outcome', { outcome: short(result.outcome), reason: short(result.end_reason), sequence: result.sequence });
}

// printStatus prints how a call failed.
function printStatus(error) {
  const trailer = (name) => String(error.metadata?.get(name)[0] || '');
  emit('status', {
    code: grpc.status[error.code], message: error.details,
    reason: trailer('replyq-reason'), field: trailer('replyq-field'),
  });
}

// asObject turns the message Error into what JSON can hold.
function asObject({ code, reason, message, field, metadata, details }) {
  return {
    code, reason, message, field, metadata,
    details: details.map((any) => ({ type: any.type_url, value: any.value.toString('base64') })),
  };
}

// printPipe prints what comes on the stream of a Call or a Receive, up to its status.
async function printPipe(call, onReply = async () => {}) {
  try {
    for await (const { receipt, attached, reply, end } of call) {
      if (receipt) {
        printReceipt(receipt);
      } else if (attached) {
        emit('attached', { sequence: attached.next_sequence });
      } else if (reply) {
        const { sequence, attempt } = reply;
        emit('reply', { sequence, payload: reply.payload.toString(), attempt, handles: tokens(reply.handles) });
        await onReply(reply);
      } else if (end) {
        emit('end', {
          reason: short(end.reason), sequence: end.last_sequence, error: end.error ? asObject(end.error) : null,
        });
      }
    }
    emit('status', { code: 'OK' });
  } catch (error) {
    printStatus(error);
  }
}

module.exports = { options, connect, unary, emit, tokens, named, short, printReceipt, printOutcome, printStatus, printPipe };
