package main

func requestReply() *benchCase {
	return &benchCase{
		Name: "request-reply", Unit: "requests",
		About: "from a caller to a worker and back, through a server",
		Systems: []*contestant{
			{System: systemNATS, server: natsServer, worker: natsWorker, caller: natsCaller},
			{System: systemPipelined, server: natsServer, worker: natsWorker, caller: natsPipelinedCaller, versus: []string{systemNATS}},
			{System: systemReplyq, server: replyqServer, worker: replyqWorker, caller: replyqCaller, versus: []string{systemNATS}},
			{System: systemWindow, server: replyqServer, worker: replyqWorker, caller: replyqWindowCaller,
				versus: []string{systemNATS, systemPipelined}},
			{System: systemTCPRelay, server: tcpRelayServer, worker: tcpRelayWorker, caller: tcpRelayCaller, joined: true,
				versus: []string{systemNATS}},
			// Two hops like the others; what passes over them is a gRPC message.
			{System: systemGRPCRelay, server: grpcRelayServer, worker: grpcRelayWorker, caller: grpcRelayCaller, joined: true,
				versus: []string{systemNATS}},
			{System: systemRabbitMQ, server: rabbitServer, worker: rabbitWorker, caller: rabbitCaller, missing: rabbitMissing,
				only: func(sh shape) bool { return sh == one || sh == some || sh == many }, versus: []string{systemNATS}},
			// One hop only.
			{System: systemGRPCStream, server: streamServer, caller: streamCaller, versus: []string{systemNATS}},
		},
		Shapes: callShapes,
	}
}
