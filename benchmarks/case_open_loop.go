package main

func openLoop() *benchCase {
	return &benchCase{
		Name: "open-loop", Unit: "requests",
		About: "request-reply at a fixed rate; latency counts from when a request was due, also if it had to wait for its turn",
		Systems: []*contestant{
			{System: systemNATS, server: natsServer, worker: natsWorker, caller: natsCaller},
			{System: systemReplyq, server: replyqServer, worker: replyqWorker, caller: replyqCaller, versus: []string{systemNATS}},
		},
		Shapes: func(quick bool) []shape {
			low := shape{InFlight: 1024, Connections: 4, Payload: 128, Rate: 5_000}
			if quick {
				return []shape{low}
			}
			high := low
			high.Rate = 20_000
			return []shape{low, high}
		},
	}
}
