package handles_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/replyq/replyq/handles"
)

// exampleKeys has a key that anybody can read; make one with GenerateKeyLine.
const exampleKeys = `
# id state not-before root
7 mint 2026-01-01T00:00:00Z 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
`

// A handle can be nested in any document. It is encoded as the token and printed without it.
func Example() {
	ring, err := handles.ParseKeys("example", []byte(exampleKeys))
	if err != nil {
		fmt.Println(err)
		return
	}
	type Job struct {
		Report  string          `json:"report"`
		ReplyTo handles.Handle  `json:"reply_to"`
		Audit   *handles.Handle `json:"audit"`
	}
	job := Job{
		Report: "sales",
		ReplyTo: ring.Mint(handles.Claims{
			Kind: handles.Send, Tenant: 1, Slot: 12, Nonce: 0x5eed, Expires: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC).Unix(),
		}),
	}
	doc, err := json.Marshal(job)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(doc))

	var received Job // by another process, in whatever language
	if err := json.Unmarshal(doc, &received); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(received.ReplyTo, received.ReplyTo == job.ReplyTo)

	// Output:
	// {"report":"sales","reply_to":"qh1s_EQcAAAAAAAEAAAAAAAAAAAAAAAwAAAAAAABe7QPslwDeFAMIEan4Uvhu8jBKbduT","audit":null}
	// handle(send,t=1,#8b3caae9) true
}

func ExampleKeyRing_Verify() {
	ring, err := handles.NewEphemeral()
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	h := ring.Mint(handles.Claims{Kind: handles.Send, Tenant: 1, Expires: now.Add(time.Hour).Unix()})

	fmt.Println(ring.Verify(h, 1, now))
	fmt.Println(ring.Verify(h, 2, now))
	fmt.Println(errors.Is(ring.Verify(h, 1, now.Add(2*time.Hour)), handles.ErrExpired))
	// Output:
	// <nil>
	// handle is unknown
	// true
}

func ExampleKeyRing_Replace() {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	oldRoot, newRoot := handles.GenerateKeyLine(1, "", now)[2:], handles.GenerateKeyLine(2, "", now)[2:]
	ring, err := handles.ParseKeys("example", []byte("1 mint"+oldRoot))
	if err != nil {
		fmt.Println(err)
		return
	}
	h := ring.Mint(handles.Claims{Kind: handles.Send, Tenant: 1, Expires: now.Add(time.Hour).Unix()})

	if err := ring.Replace([]byte("1 accept" + oldRoot + "\n2 mint" + newRoot)); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("rotated:", ring.Verify(h, 1, now))

	if err := ring.Replace([]byte("1 dropped" + oldRoot + "\n2 mint" + newRoot)); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("dropped:", ring.Verify(h, 1, now))
	// Output:
	// rotated: <nil>
	// dropped: handle was revoked
}

func ExampleScan() {
	ring, err := handles.ParseKeys("example", []byte(exampleKeys))
	if err != nil {
		fmt.Println(err)
		return
	}
	h := ring.Mint(handles.Claims{Kind: handles.Receive, Tenant: 1, Expires: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC).Unix()})
	payload := []byte("await " + h.Text() + ", please")

	handles.Scan(payload, func(found handles.Handle) {
		fmt.Println(found.Kind(), found == h)
	})
	// Output:
	// receive true
}
