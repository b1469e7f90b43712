'use strict';
// Puts a message on a queue. With --wait it stays for the answers; with --pipe it takes the future and leaves.

const { options, connect, unary, named, printReceipt, printOutcome, printStatus, printPipe } = require('./common');

const string = { type: 'string', default: '' };
const opts = options({
  queue: string,
  payload: string,
  'reply-to': string, // send handle, for answers to somebody else
  handle: { type: 'string', multiple: true, default: [] }, // NAME=TOKEN travels with the message
  pipe: { type: 'boolean', default: false }, // have a pipe opened, and print its receive handle
  wait: { type: 'boolean', default: false }, // wait for the answers
  grace: { type: 'string', default: '10' }, // seconds that the answers wait if this program is cut
  follow: string, // await the future that a reply carries under this name
  confirm: string, // reply through the handle that a reply carries under this name
});
const server = connect(opts);

async function enqueue(message) {
  try {
    const request = { queue: opts.queue, message, pipe: opts.pipe ? {} : null };
    printReceipt((await unary(server, 'Enqueue', request)).receipt);
  } catch (error) {
    printStatus(error);
  }
}

async function call(message) {
  const milliseconds = Number(opts.grace) * 1000;
  const grace = { seconds: Math.floor(milliseconds / 1000), nanos: (milliseconds % 1000) * 1e6 };
  const request = { queue: opts.queue, message, pipe: { disconnect_grace: grace } };
  const futures = [];
  await printPipe(server.stub.Call(request, server.metadata), async ({ handles }) => {
    if (handles[opts.follow]) futures.push(handles[opts.follow]);
    if (handles[opts.confirm]) {
      const reply = { handle: handles[opts.confirm], payload: Buffer.from('confirmed') };
      printOutcome((await unary(server, 'Reply', reply)).result);
    }
  });
  for (const handle of futures) await printPipe(server.stub.Receive({ handle }, server.metadata));
}

const message = { payload: Buffer.from(opts.payload), handles: named(opts.handle) };
if (opts['reply-to']) message.reply_to = { token: opts['reply-to'] };
(opts.wait ? call(message) : enqueue(message)).finally(() => server.stub.close());
