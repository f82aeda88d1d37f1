# The commands of this repository. "make help" lists them.
GO ?= go
FIRST ?= 1
SEEDS ?= 200
FUZZTIME ?= 20s
OUT ?=
ARGS ?=
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

export CGO_ENABLED = 0
LDFLAGS = -s -w -X main.version=$(VERSION)

.PHONY: test-vm scale release sanity helm demo-k8s e2e e2e-thrash help build test envtest race lint verify generate demo bench bench-compare bench-db bench-hang bench-heal bench-profile bench-scale bench-space bench-stages bench-sustained sim fuzz golden mixed thrash clean cluster cluster-up cluster-down cluster-test e2e-external kubectl image

help: ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/mynetwork and bin/kubectl-mynetwork
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

test: ## all tests; as root those on real devices too
	$(GO) test -timeout 20m ./...

test-vm: ## ublk devices, killed servers and all, and the kernel as NBD client, on Debian's newest kernel in an emulated machine: about 10 minutes; fetches kernel and qemu; ARGS='-cpus 2'
	hack/test-vm $(ARGS)

envtest: ## the operator on a real API server; KUBEBUILDER_ASSETS=directory of kube-apiserver and etcd
	$(GO) test -count=1 -tags envtest -timeout 30m -run TestReal ./controllers

scale: build ## the operator on 1,000 nodes: processor, memory, requests, times; KUBEBUILDER_ASSETS as for envtest; as root; ARGS='-nodes 500'
	$(GO) build -o bin/ ./hack/scale
	bin/scale $(ARGS)

race: ## the concurrent packages under the race detector
	CGO_ENABLED=1 $(GO) test -race -short -timeout 20m ./cmd/... ./nodeagent/...

lint: ## formatting, vet, golangci-lint, and the house's own rules
	hack/lint

verify: ## generated code is what its sources make, and the module files are tidy
	hack/generate --verify
	$(GO) mod verify

generate: ## write generated code again
	hack/generate

demo: build ## three nodes, real faults, real data: the story of the data path, about 3 minutes, as root
	$(GO) run ./hack/demo -program bin/mynetwork

bench: build ## fio on the devices and on a plain file beside them; OUT=file writes JSON
	$(GO) run ./hack/bench -program bin/mynetwork $(if $(OUT),-out $(OUT))

bench-heal: build ## a replica that was away made whole, alone and beside synced writes (MISSED=512Mi; only that: ARGS='-parts missed', 2 minutes); copies moved and made again as a node is added, drained, lost: SIZE=10Gi of data, three times that and half more of disk; as root
	$(GO) build -trimpath -o bin/ ./hack/bench
	bin/bench heal -size $(or $(SIZE),10Gi) -missed $(or $(MISSED),512Mi) $(ARGS)

bench-hang: ## reads beside a disk that hangs in 1 % of its reads, or for 5 s; agents in the benchmark's own process; 2 minutes, as root; ARGS='-runs 3'
	$(GO) build -trimpath -o bin/ ./hack/bench
	bin/bench hang $(ARGS)

bench-sustained: build ## synced and deep 4 KiB writes for SECONDS=60 each, on a volume and on a plain file: how even, by second; 5 minutes, as root
	$(GO) build -trimpath -o bin/ ./hack/bench
	bin/bench sustained -seconds $(or $(SECONDS),60) $(ARGS)

bench-space: build ## what comes back of a file that is removed and trimmed, and of a volume; what writes cost where 80 % of the disk is alive: SIZE=2Gi, of disk up to twelve times that; 8 minutes, as root
	$(GO) build -trimpath -o bin/ ./hack/bench
	bin/bench space -size $(or $(SIZE),2Gi) $(ARGS)

bench-db: build ## PostgreSQL, SQLite and fio's mixes on ext4, on a volume and on a plain file; 6 minutes, as root
	$(GO) build -trimpath -o bin/ ./hack/bench
	bin/bench db $(ARGS)

bench-scale: build ## by agents, attached volumes, and size: into hack/bench/SCALE.md and scale.svg; 10 minutes, as root; ARGS='-parts volumes'
	$(GO) build -trimpath -o bin/ ./hack/bench
	bin/bench scale -docs hack/bench $(ARGS)

bench-profile: ## what the CPU time of each workload goes to, by cause and process, into hack/bench/results/profile.md; 2 minutes, as root, with perf (linux-perf)
	$(GO) build -trimpath -o bin/ ./hack/bench
	$(GO) build -trimpath -o bin/symbols/ ./cmd/mynetwork
	bin/bench profile -program bin/symbols/mynetwork -out hack/bench/results/profile.md $(ARGS)

bench-stages: ## CPU time of each stage of a write and a read
	$(GO) run ./hack/bench stages

bench-compare: ## what became better or worse since the committed baseline; NEW=file takes figures that are there already
	$(if $(NEW),,@mkdir -p out && $(MAKE) bench OUT=out/bench.json)
	$(GO) run ./hack/bench compare hack/bench/results/baseline.json $(or $(NEW),out/bench.json)

sanity: ## csi-sanity and the driver's tests, on real devices and against real agents, as root (FAST=1: in memory)
	hack/sanity

sim: ## whole clusters in one thread: SEEDS=n from FIRST=k
	$(GO) run ./hack/sim -first $(FIRST) -seeds $(SEEDS)

thrash: build ## real processes and devices, hurt at random for MINUTES=20 under verified load, then asked for every byte; SEED=n NODES=5, as root; ARGS='-lie disk'
	$(GO) build -trimpath -o bin/ ./hack/thrash
	bin/thrash -minutes $(or $(MINUTES),20) -nodes $(or $(NODES),5) $(if $(SEED),-seed $(SEED)) $(ARGS)

mixed: build ## this version and an older one in one network, upgraded and rolled back node by node under load; OLD=program or git ref, as root
	hack/mixed '$(OLD)'

golden: ## what this version leaves on disks, as a new folder NAME of nodeagent/agent/testdata/golden, for all later versions to open
	@[ -n "$(NAME)" ] || { echo "make golden NAME=v2: the folders that are there stay as they are"; exit 1; }
	$(GO) test -count=1 -run '^TestMakeGolden$$' ./nodeagent/agent -args -golden '$(NAME)'
	du -sb nodeagent/agent/testdata/golden/*

fuzz: ## every fuzz target for FUZZTIME=20s
	hack/fuzz $(FUZZTIME)

cluster: ## bin/cluster, which runs a real Kubernetes on this machine: see hack/cluster/README.md
	$(GO) build -trimpath -o bin/ ./hack/cluster

cluster-up: cluster ## a real Kubernetes: control plane and three nodes; the first build takes 10 minutes; as root
	bin/cluster up

cluster-down: cluster ## stop the cluster and remove its state
	bin/cluster down

cluster-test: ## the test cluster itself: power-off, partitions, tear-down, on a cluster of its own; as root
	MYNETWORK_CLUSTER_TEST=$${MYNETWORK_CLUSTER_TEST:-/var/tmp/mynetwork-cluster-test} $(GO) test -count=1 -timeout 60m -v -run TestCluster ./hack/cluster

e2e-external: cluster ## Kubernetes' own tests of storage drivers, on the cluster with MyNetwork installed; ARGS='--slow=false'
	bin/cluster e2e-external --report out/e2e-external $(ARGS)

kubectl: cluster ## how to reach the cluster; ARGS='get pods -A' runs kubectl
	@$(if $(ARGS),bin/cluster kubectl $(ARGS),bin/cluster status)

image: build ## the image registry.local/mynetwork:dev as out/mynetwork.tar, without Docker
	$(GO) build -trimpath -o bin/ ./hack/image
	bin/image -mynetwork bin/mynetwork -out out mynetwork

helm: ## bin/helm, in the version that the chart is tested with
	cd hack/tools && $(GO) build -trimpath -o ../../bin/ helm.sh/helm/v3/cmd/helm

release: helm ## out/release: programs, image, chart, SBOM, sums; VERSION=v1.2.3; ARGS=-twice makes all twice and compares
	$(GO) build -trimpath -o bin/ ./hack/image
	$(GO) run ./hack/release -version '$(VERSION)' $(ARGS)

demo-k8s: ## a chart, a three-line MyNetwork and a database on a real cluster: KUBECONFIG's, or one on this machine; as root
	hack/k8s demo

e2e: ## what a real cluster has to show: restarts, upgrades, power-off, partitions, mistakes; ARGS='-run NAME'
	hack/k8s e2e $(ARGS)

e2e-thrash: ## a real cluster of four nodes, hurt at random for MINUTES=20 under loads that know what they wrote, then asked for every byte; SEED=1, ARGS='-lie copies'; as root
	hack/k8s thrash -minutes $(or $(MINUTES),20) -seed $(or $(SEED),1) $(ARGS)

clean:
	rm -rf bin out
