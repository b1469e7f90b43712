package main

func streamedReplies() *benchCase {
	versus := []string{systemGRPCStream, systemGRPCRelay}
	return &benchCase{
		Name: "streamed-replies", Unit: "replies",
		About: "one request, many replies. Latency is that of the whole stream. grpc-stream is one hop, grpc-relay two",
		Systems: []*contestant{
			{System: systemGRPCStream, server: streamServer, caller: partsCaller},
			{System: systemGRPCRelay, server: grpcRelayServer, worker: grpcRelayWorker, caller: grpcRelayCaller, joined: true},
			{System: systemReplyq, server: replyqServer, worker: replyqStreamWorker, caller: replyqStreamCaller,
				versus: versus},
			{System: systemSession, server: replyqServer, worker: sessionStreamWorker, caller: replyqStreamCaller, versus: versus},
		},
		Shapes: func(quick bool) []shape {
			small := shape{InFlight: 1, Connections: 1, Payload: 64, Request: 64, Answers: 10_000}
			large := shape{InFlight: 1, Connections: 1, Payload: 1 << 20, Request: 64, Answers: 32}
			if quick {
				return []shape{small, large}
			}
			several := small
			several.InFlight, several.Connections = 16, 4
			return []shape{small, several, large}
		},
	}
}
