'use strict';
// Consumes a queue, and answers through the handles that the messages bring. What it does with a message is --do.

const grpc = require('@grpc/grpc-js');
const { options, connect, unary, emit, tokens, short, printOutcome, printStatus } = require('./common');

const opts = options({
  queue: { type: 'string' },
  do: { type: 'string', default: 'echo' }, // one of the functions below
  to: { type: 'string', default: '' }, // with splice and forward: the queue where the work is done
});
const server = connect(opts);

// reply replies to whoever waits. The lease makes sure that nobody else has the message by now.
async function reply(delivery, fields) {
  const request = { handle: delivery.message.reply_to, lease: delivery.lease, ...fields };
  printOutcome((await unary(server, 'Reply', request)).result);
}

// What may be done with a message:
const work = {
  // One reply, which ends the pipe and acks the delivery.
  async echo(delivery) {
    await reply(delivery, { payload: Buffer.from(delivery.message.payload.toString().toUpperCase()), ack: true });
  },

  // Several replies, then an end.
  async stream(delivery) {
    for (const part of ['part 1', 'part 2', 'part 3']) {
      await reply(delivery, { payload: Buffer.from(part), more: true });
    }
    await reply(delivery, { ack: true });
  },

  // One reply of several, and then it hangs.
  async half(delivery) {
    await reply(delivery, { payload: Buffer.from('half'), more: true });
  },

  // An error with everything that an error can have.
  async fail(delivery) {
    const page = Buffer.from('page 7');
    const error = {
      code: grpc.status.NOT_FOUND, reason: 'NO_SUCH_REPORT', message: 'there is no report 7', metadata: { report: '7' },
      details: [{
        type_url: 'type.googleapis.com/google.protobuf.StringValue',
        value: Buffer.concat([Buffer.from([0x0a, page.length]), page]), // field 1, a string
      }],
    };
    await reply(delivery, { error, ack: true });
  },

  // Done, without an answer.
  async ack(delivery) {
    await unary(server, 'Settle', { lease: delivery.lease });
    emit('settled');
  },

  // Works for ever.
  async hold() {},

  // Answers with a future, and says who holds the other end of it.
  async promise(delivery) {
    const pipe = await unary(server, 'OpenPipe', {});
    await reply(delivery, { payload: Buffer.from('later'), handles: { result: pipe.receive_handle }, ack: true });
    emit('promised', { send_handle: pipe.send_handle.token });
  },

  // Answers with another actor's future, so that the waiter just gets that one's value.
  async splice(delivery) {
    const inner = { queue: opts.to, message: { payload: delivery.message.payload }, pipe: {} };
    const { receipt } = await unary(server, 'Enqueue', inner);
    await reply(delivery, { splice: receipt.receive_handle, ack: true });
  },

  // Passes the message on with its reply_to, and acks it, in one step: whoever gets it answers the waiter.
  async forward(delivery) {
    const { payload, reply_to } = delivery.message;
    const messages = [{ queue: opts.to, message: { payload, reply_to } }];
    await unary(server, 'Settle', { lease: delivery.lease, messages });
    emit('settled');
  },

  // Replies through each handle of the message and of its JSON payload, and then answers.
  async notify(delivery) {
    const all = { ...tokens(delivery.message.handles), ...JSON.parse(delivery.message.payload.toString()) };
    for (const [name, token] of Object.entries(all)) {
      const request = { handle: { token }, payload: Buffer.from(`noted ${name}`) };
      printOutcome((await unary(server, 'Reply', request)).result);
    }
    await reply(delivery, { payload: Buffer.from('done'), ack: true });
  },

  // Answers with a handle to reply through, and awaits the reply.
  async confirm(delivery) {
    const pipe = await unary(server, 'OpenPipe', {});
    await reply(delivery, { payload: Buffer.from('please confirm'), handles: { confirm: pipe.send_handle }, ack: true });
    for await (const event of server.stub.Receive({ handle: pipe.receive_handle }, server.metadata)) {
      if (event.reply) emit('confirmed', { payload: event.reply.payload.toString() });
    }
  },
};

async function consume() {
  try {
    for await (const event of server.stub.Consume({ queues: [opts.queue], max_in_flight: 4 }, server.metadata)) {
      const { started, delivery, waiter_gone: gone, lease_lost: lost } = event;
      if (started) {
        emit('started', { consumer_id: started.consumer_id });
      } else if (delivery) {
        const { message_id, attempt, message, ended_handles } = delivery;
        emit('delivery', {
          message_id, attempt, payload: message.payload.toString(), reply_to: message.reply_to?.token || '',
          handles: tokens(message.handles), ended_handles,
        });
        await work[opts.do](delivery);
      } else if (gone) {
        emit('waiter_gone', { message_id: gone.message_id, reason: short(gone.reason) });
      } else if (lost) {
        emit('lease_lost', { message_id: lost.message_id });
      }
    }
    emit('status', { code: 'OK' });
  } catch (error) {
    printStatus(error);
  }
}

consume().finally(() => server.stub.close());
