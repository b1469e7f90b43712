'use strict';
// Replies through a send handle that came from anywhere, knowing nothing of who waits.

const { options, connect, unary, printOutcome, printStatus } = require('./common');

const opts = options({
  handle: { type: 'string' }, // the send handle
  payload: { type: 'string', default: '' },
  more: { type: 'boolean', default: false }, // keep the pipe open for further replies
});
const server = connect(opts);
const request = { handle: { token: opts.handle }, payload: Buffer.from(opts.payload), more: opts.more };
unary(server, 'Reply', request)
  .then(({ result }) => printOutcome(result), printStatus)
  .finally(() => server.stub.close());
