package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// databaseScript runs PostgreSQL as the user that owns its files, and fills a table with rows, each committed by itself.
const databaseScript = `
set -e
bin=$(dirname $(ls /usr/lib/postgresql/*/bin/postgres))
export PGDATA=/data/pg
[ -e $PGDATA/PG_VERSION ] || { $bin/initdb -U postgres -A trust >/dev/null; echo initialised; }
chmod 700 $PGDATA # fsGroup widens it on each mount
rm -f $PGDATA/postmaster.pid
$bin/pg_ctl -w -o "-k /tmp -c listen_addresses=" -l /tmp/log start >/dev/null || { cat /tmp/log; exit 1; }
q() { $bin/psql -h /tmp -U postgres -qtAc "$1"; }
q 'create table if not exists t (n bigserial primary key, at timestamptz default now())'
echo "rows $(q 'select count(*) from t')"
%s`

const (
	insertForever = `while q 'insert into t default values'; do n=$((n+1)); [ $((n%20)) = 0 ] && echo "committed $(q 'select count(*) from t')"; done; sleep infinity`
	countAndEnd   = `$bin/pg_ctl -w -m fast stop >/dev/null; echo done`
)

// postgresUser is the user postgres of the tools image.
const postgresUser = 70

// postgres runs as a user that is not root: PostgreSQL refuses root.
func (s *suite) postgres(spec *corev1.PodSpec) {
	spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(postgresUser)), RunAsGroup: new(int64(postgresUser)), FSGroup: new(int64(postgresUser))}
}

// story is the suite demo: each step prints what a person would see.
func story() []testCase {
	return []testCase{
		{name: "install", always: true, limit: 6 * time.Minute, f: install},
		{name: "database", always: true, limit: 15 * time.Minute, f: database},
	}
}

// database is the story of one PostgreSQL.
func database(s *suite) (string, error) {
	class, err := s.xfsClass()
	if err != nil {
		return "", err
	}
	claim := s.claim("pg", "1Gi", false, nil)
	claim.Spec.StorageClassName = &class
	if err := s.create(claim); err != nil {
		return "", err
	}
	set := s.set("pg", "pg", fmt.Sprintf(databaseScript, insertForever))
	s.postgres(&set.Spec.Template.Spec)
	if err := s.create(set); err != nil {
		return "", err
	}
	node, err := s.running("pg-0")
	if err != nil {
		return "", err
	}
	if err := s.printed("pg-0", "committed"); err != nil {
		return "", err
	}
	s.say("PostgreSQL commits rows on node %s", node)
	start := time.Now()
	snap := s.snapshot("pg-monday", "pg")
	if err := s.create(snap); err != nil {
		return "", err
	}
	if err := s.snapshotReady(snap); err != nil {
		return "", err
	}
	s.say("snapshot of the running database ready after %.1f s", time.Since(start).Seconds())
	for _, c := range []struct{ name, kind, from string }{{"pg-restored", "VolumeSnapshot", "pg-monday"}, {"pg-cloned", "PersistentVolumeClaim", "pg"}} {
		rows, err := s.copyOfDatabase(c.name, class, source(c.kind, c.from))
		if err != nil {
			return "", err
		}
		s.say("%s, made from %s %s: PostgreSQL recovers and has %s", c.name, c.kind, c.from, rows)
	}
	if err := s.growDatabase(); err != nil {
		return "", err
	}
	if err := s.killComponent("agent", node); err != nil {
		return "", err
	}
	s.say("the agent that serves the volume was killed and is back; the database did not notice")
	if err := errors.Join(s.networkReady(), s.look()); err != nil {
		return "", err
	}
	out, err := s.logs("pg-0")
	return tail(out, 1) + " on node " + node, err
}

// growDatabase grows the claim under the running database.
func (s *suite) growDatabase() error {
	claim := s.claim("pg", "1Gi", false, nil)
	claim.Namespace = s.ns
	if err := s.c.Get(s.ctx, client.ObjectKeyFromObject(claim), claim); err != nil {
		return err
	}
	before := claim.DeepCopy()
	claim.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("2Gi")
	start := time.Now()
	if err := s.c.Patch(s.ctx, claim, client.MergeFrom(before)); err != nil {
		return err
	}
	err := s.until("the claim has 2 GiB", func() error {
		if err := s.c.Get(s.ctx, client.ObjectKeyFromObject(claim), claim); err != nil {
			return err
		}
		if q := claim.Status.Capacity[corev1.ResourceStorage]; q.Cmp(resource.MustParse("2Gi")) < 0 {
			return fmt.Errorf("it has %s", q.String())
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.say("grown from 1 to 2 GiB under the running database in %.1f s", time.Since(start).Seconds())
	return nil
}

// printed waits until a pod has printed a word.
func (s *suite) printed(pod, word string) error {
	return s.until("pod "+pod+" prints "+word, func() error {
		out, err := s.logs(pod)
		if err == nil && !strings.Contains(out, word) {
			err = fmt.Errorf("it has printed: %s", tail(out, 5))
		}
		return err
	})
}

// copyOfDatabase starts PostgreSQL on a copy, and gives what it says of its rows.
func (s *suite) copyOfDatabase(name, class string, from *corev1.TypedLocalObjectReference) (rows string, err error) {
	claim := s.claim(name, "1Gi", false, from)
	claim.Spec.StorageClassName = &class
	if err := s.create(claim); err != nil {
		return "", err
	}
	p := s.pod(name, name, fmt.Sprintf(databaseScript, countAndEnd), false)
	s.postgres(&p.Spec)
	if err := s.create(p); err != nil {
		return "", err
	}
	out, err := s.succeeded(name)
	for _, l := range strings.Split(out, "\n") {
		if strings.HasPrefix(l, "rows ") {
			rows = l
		}
	}
	if err == nil && rows == "" {
		err = fmt.Errorf("pod %s did not count: %s", name, tail(out, 5))
	}
	return rows, err
}

// look prints what kubectl get would show of the objects that people look at.
func (s *suite) look() error {
	var n v1alpha1.MyNetwork
	if err := s.c.Get(s.ctx, client.ObjectKey{Name: s.o.network}, &n); err != nil {
		return err
	}
	s.say("MyNetwork %s: nodes %s, used %s, %d volumes, %s", n.Name, n.Status.Nodes.Summary, n.Status.Capacity.Summary, n.Status.Volumes, n.Status.Activity)
	var nodes v1alpha1.StorageNodeList
	if err := s.c.List(s.ctx, &nodes); err != nil {
		return err
	}
	for _, o := range nodes.Items {
		s.say("StorageNode %s: %s, zone %q, %s", o.Name, o.Status.Summary, o.Status.Zone, conditions(o.Status.Conditions))
	}
	var records v1alpha1.VolumeRecordList
	if err := s.c.List(s.ctx, &records); err != nil {
		return err
	}
	for _, o := range records.Items {
		s.say("VolumeRecord %s: %s, %d copies, on %q, %d snapshots", o.Name, o.Spec.Capacity.String(), o.Spec.Copies, o.State.Holder, len(o.State.Snapshots))
	}
	var groups v1alpha1.ContentGroupList
	if err := s.c.List(s.ctx, &groups); err != nil {
		return err
	}
	for _, o := range groups.Items {
		s.say("ContentGroup %s/%s: %d states, %s", o.Namespace, o.Name, o.Status.StateCount, conditions(o.Status.Conditions))
	}
	return nil
}

// conditions lists types and states.
func conditions(list []metav1.Condition) string {
	var out []string
	for _, c := range list {
		out = append(out, c.Type+"="+string(c.Status))
	}
	return strings.Join(out, " ")
}
