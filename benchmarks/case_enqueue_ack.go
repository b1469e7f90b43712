package main

func enqueueAck() *benchCase {
	versus := []string{systemMemory, systemFile}
	return &benchCase{
		Name: "enqueue-ack", Unit: "messages",
		About: "fire and forget: enqueued, delivered, acked; until the server has none left. Latency is that of the receipt",
		Systems: []*contestant{
			{System: systemMemory, server: jetstreamServer, worker: jetstreamWorker, caller: jetstreamCaller},
			{System: systemFile, server: jetstreamServer, worker: jetstreamWorker, caller: jetstreamCaller},
			{System: systemReplyq, server: replyqServer, worker: enqueueWorker, caller: enqueueCaller, versus: versus},
			{System: systemWindow, server: replyqServer, worker: enqueueWorker, caller: asyncCaller, versus: versus},
			{System: systemBatch, server: replyqServer, worker: enqueueWorker, caller: batchCaller, versus: versus},
		},
		settles: true,
		Shapes: func(quick bool) []shape {
			large := shape{InFlight: 1024, Connections: 4, Payload: 128}
			if quick {
				return []shape{large}
			}
			return []shape{many, large}
		},
	}
}
