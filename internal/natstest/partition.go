package natstest

import "github.com/replyq/replyq/internal/faultnet"

// A way is a route that one node makes to another, through a proxy.
type way struct {
	from, to int
	proxy    *faultnet.Proxy
}

// routes are the addresses at which a node reaches the others, which listen for each other on these.
func (c *Cluster) routes(from int, peers []string, proxied bool) (addresses []string) {
	c.t.Helper()
	for to, address := range peers {
		if to == from {
			continue
		}
		if proxied {
			proxy, err := faultnet.Listen(address)
			if err != nil {
				c.t.Fatal(err)
			}
			c.t.Cleanup(proxy.Close)
			c.ways = append(c.ways, way{from, to, proxy})
			address = proxy.Addr()
		}
		addresses = append(addresses, address)
	}
	return addresses
}

// Isolate cuts a node off from the others, not from its clients: what they send each other vanishes. It needs
// [Options.Partitions].
func (c *Cluster) Isolate(i int) {
	for _, w := range c.ways {
		if w.from == i || w.to == i {
			w.proxy.Swallow()
		}
	}
}

// Heal ends all partitions.
func (c *Cluster) Heal() {
	for _, w := range c.ways {
		w.proxy.Heal()
	}
}
