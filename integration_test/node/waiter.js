'use strict';
// Awaits a future: a receive handle that came from anywhere. With --timeout it gives up waiting; the value may come later.

const { options, connect, printPipe } = require('./common');

const opts = options({
  handle: { type: 'string' }, // the receive handle
  from: { type: 'string', default: '1' }, // the first reply wanted
  timeout: { type: 'string' }, // seconds to wait
});
const { stub, metadata } = connect(opts);
const deadline = opts.timeout ? { deadline: Date.now() + Number(opts.timeout) * 1000 } : {};
const request = { handle: { token: opts.handle }, from_sequence: Number(opts.from) };
printPipe(stub.Receive(request, metadata, deadline)).finally(() => stub.close());
