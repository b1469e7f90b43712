package main

func plainCall() *benchCase {
	return &benchCase{
		Name: "plain-call", Unit: "requests",
		About: "the same by plain RPCs: replyq's request is a Call, a delivery and a Reply; the echo's is one RPC, one hop",
		Systems: []*contestant{
			{System: systemGRPCEcho, server: echoServer, caller: echoCaller},
			{System: systemReplyq, server: replyqServer, worker: plainWorker, caller: plainCaller, versus: []string{systemGRPCEcho}},
		},
		Shapes: callShapes,
	}
}
