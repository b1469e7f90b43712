package main

// chainLength is how many workers a request passes; all of them are in one process.
const chainLength = 4

func forwardChain() *benchCase {
	return &benchCase{
		Name: "forward-chain", Unit: "requests",
		About: "four workers pass a request on, the last one answers the caller",
		Systems: []*contestant{
			{System: systemNATS, server: natsServer, worker: natsChainWorker, caller: natsCaller},
			{System: systemReplyq, server: replyqServer, worker: replyqChainWorker, caller: replyqCaller, versus: []string{systemNATS}},
		},
		Shapes: func(quick bool) []shape {
			if quick {
				return []shape{many}
			}
			return []shape{one, many}
		},
	}
}
