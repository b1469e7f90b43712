'use strict';
// Calls and consumes on one Session stream: many operations in a frame, many results in a frame.
//
// It calls a queue COUNT times, all calls in one frame, and answers the deliveries itself, all that came in one frame
// with one frame. Every call's answer is checked.

const { options, connect, emit, printStatus } = require('./common');

const opts = options({ queue: { type: 'string' }, count: { type: 'string', default: '100' } });
const { stub, metadata } = connect(opts);

const CONSUME = 1; // the id of the Consume operation; the calls follow it
let nextId = CONSUME + 1;
const calls = new Map(); // operation id: the answer that is right
const replies = new Set(); // operation ids of replies under way
let ended = 0;
let right = 0;
let largestFrame = 0;

// The first frame: hello, one Consume and all the calls. Credit for 4 MiB, the default, is more than enough here;
// a program that goes on gives more as it takes results, with `credits: [{ bytes }]`.
function firstFrame() {
  const frame = {
    hello: { protocol_version: 1, client_name: 'session.js' },
    operations: [{ id: CONSUME, consume: { queues: [opts.queue], max_in_flight: 100 } }],
  };
  for (let number = 0; number < Number(opts.count); number += 1) {
    const payload = `canary call ${number}`;
    calls.set(nextId, payload.toUpperCase());
    frame.operations.push({ id: nextId, call: { queue: opts.queue, message: { payload: Buffer.from(payload) } } });
    nextId += 1;
  }
  return frame;
}

// One frame of results: deliveries to answer, answers to calls, outcomes of replies.
function take(results) {
  const operations = [];
  for (const { id, consume, call, reply, error } of results) {
    if (error) {
      emit('status', { code: String(error.code), reason: error.reason, field: error.field });
    } else if (consume?.delivery) {
      const { lease, message } = consume.delivery;
      const payload = Buffer.from(message.payload.toString().toUpperCase());
      operations.push({ id: nextId, reply: { handle: message.reply_to, payload, lease, ack: true } });
      replies.add(nextId);
      nextId += 1;
    } else if (call?.reply) {
      if (call.reply.payload.toString() === calls.get(id)) right += 1;
    } else if (call?.end) {
      ended += 1;
    } else if (reply) {
      replies.delete(id);
    }
  }
  return operations;
}

async function run() {
  const session = stub.Session(metadata);
  session.write(firstFrame());
  try {
    for await (const { hello, results } of session) {
      if (hello) emit('hello', { protocol_version: hello.protocol_version, tenant: hello.tenant });
      largestFrame = Math.max(largestFrame, results.length);
      const operations = take(results);
      if (operations.length > 0) session.write({ operations });
      if (ended === calls.size && replies.size === 0) {
        // All is answered: leave the Consume, and close this side of the stream.
        session.write({ detach: [CONSUME] });
        session.end();
      }
    }
    emit('done', { calls: ended, right, largest_frame: largestFrame });
    emit('status', { code: 'OK' });
  } catch (error) {
    printStatus(error);
  }
}

run().finally(() => stub.close());
