// Package gitops has no code: its tests hold what config/argocd and config/flux say against the API and the chart.
//
// The scripts of Argo CD run in the Lua interpreter and with the libraries that Argo CD gives them, on objects of this API. What
// Flux is given is read strictly into Flux's own types, and the values of its HelmRelease are held against the chart's schema.
package gitops
