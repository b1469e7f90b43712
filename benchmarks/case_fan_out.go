package main

func fanOut() *benchCase {
	return &benchCase{
		Name: "fan-out", Unit: "replies",
		About: "a request becomes 100 pieces of work, whose answers come back to the one caller. Latency is until the last",
		Systems: []*contestant{
			{System: systemPipelined, server: natsServer, worker: natsWorker, caller: natsFanOutCaller},
			{System: systemReplyq, server: replyqServer, worker: replyqFanOutWorker, caller: replyqFanOutCaller,
				versus: []string{systemPipelined}},
		},
		Shapes: func(quick bool) []shape {
			few := shape{InFlight: 16, Connections: 4, Payload: 128, Answers: 100}
			if quick {
				return []shape{few}
			}
			single := shape{InFlight: 1, Connections: 1, Payload: 128, Answers: 100, Rounds: pairs}
			return []shape{single, few}
		},
	}
}
