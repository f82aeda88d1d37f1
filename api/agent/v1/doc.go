// Package agentv1 is the control protocol of a node's agent: what the CSI plugin, the operator and people ask of it.
//
// The drawing is control.proto; the Go code beside it is generated. It imports nothing of this project.
package agentv1

//go:generate protoc -I ../../.. --go_out=../../.. --go_opt=paths=source_relative --go-grpc_out=../../.. --go-grpc_opt=paths=source_relative api/agent/v1/control.proto
