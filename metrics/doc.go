// Package metrics is how a component of MyNetwork says what it measures: a table of families, and a collector that asks for their values
// when somebody scrapes.
//
// A component lists its families once, with name, type, labels and help. Its source puts values under those names each time it is asked:
// nothing is kept between scrapes, so that what is gone is gone from the metrics too. The hot path knows no Prometheus: it counts in
// package meter. The table is what docs/metrics.md is made of, and what queries of alerts and dashboards are held against.
//
// # Invariants
//
//  1. What is not in the table is not exported: it fails the scrape, and the component's test. (TestUnknown)
//  2. Names pass promlint. (the tests of the components)
//
// Concurrency: a Collector may be scraped from several goroutines; its source must allow that.
package metrics
