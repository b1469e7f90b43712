package main

func durableRequest() *benchCase {
	return &benchCase{
		Name: "durable-request", Unit: "requests",
		About: "request-reply with what is confirmed on the disk. JetStream stores the request only: the answer goes back over\n" +
			"NATS core, and is gone if the caller is",
		Systems: []*contestant{
			{System: systemReplyq, server: replyqServer, worker: replyqWorker, caller: replyqCaller},
			{System: systemSync, server: jetstreamServer, worker: jetstreamReplier, caller: jetstreamRequester},
			{System: systemFile, server: jetstreamServer, worker: jetstreamReplier, caller: jetstreamRequester},
			{System: systemDisk, server: diskServer, worker: replyqWorker, caller: replyqCaller,
				versus: []string{systemSync, systemFile, systemReplyq}},
		},
		Shapes: func(quick bool) []shape {
			if quick {
				return []shape{many}
			}
			return []shape{one, many}
		},
	}
}
