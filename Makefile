# What one does with Holdpost. It needs Go and make; what else is missing is installed, from Debian as root or with sudo.

CLIENT := internal/console/assets/vendor/socket.io.min.js
CLIENTS := conformance/node_modules/.package-lock.json
FUZZTIME ?= 30s

.PHONY: run build client test lint bench fuzz faults nats endure proxies

run: build
	./holdpost serve --dev

build: client
	go build -o holdpost ./cmd/holdpost

client: $(CLIENT)

# The official Socket.IO client, for the playground: from npm, in the version of the lock file.
$(CLIENT): internal/console/package-lock.json internal/console/package.json
	.ci/need npm
	cd internal/console && npm ci --no-audit --no-fund --ignore-scripts && npm run vendor
	touch $@

# The clients and parsers of the conformance tests, which npm names in this file last.
$(CLIENTS): conformance/package-lock.json
	.ci/need node npm
	cd conformance && npm ci --no-audit --no-fund --ignore-scripts
	touch $@

test: lint $(CLIENTS)
	.ci/need curl gcc node npm chromium python3-socketio
	go test -race -timeout 20m ./...

lint:
	@test -z "$$(find . -name '*.go' -not -path '*/node_modules/*' | xargs gofmt -l | tee /dev/stderr)" || { echo "run gofmt"; exit 1; }
	go vet ./...
	GOOS=windows go build ./...
	go tool staticcheck ./...

bench:
	go run ./bench

fuzz: $(CLIENTS)
	go test -short -list '^Fuzz' ./... | awk '/^Fuzz/ { name[++n] = $$1 } /^ok/ { while (n) print name[n--], $$2 }' | \
	while read name package; do go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$package || exit 1; done

# A restart with 10,000 clients, their return all at once, and half an hour of clients that come and go: what is lost, what it takes.
endure:
	go run ./bench/endure restart -clients 10000
	go run ./bench/endure herd -clients 10000
	go run ./bench/endure soak -minutes 30

# Kills, power cuts, disks that fill up, fail and hang, damage: many times over; most need root and loop devices.
faults:
	HOLDPOST_FAULTS=long go test -count=1 -timeout 30m -v ./internal/faults

# The recipes for proxies in docs/operations.md, each with long quiet connections and spoilt in the usual ways. It installs those that are missing, but Traefik, which is tried if it is there.
proxies: $(CLIENTS)
	.ci/need nginx haproxy apache2 caddy
	HOLDPOST_LONG=1 go test -count=1 -timeout 20m -v -run TestProxies ./conformance

# The tests of package queue, all of them, on a NATS server outside; some of them are part of the others.
nats:
	HOLDPOST_NATS=all go test -count=1 -timeout 20m -run TestOverNATS ./queue
