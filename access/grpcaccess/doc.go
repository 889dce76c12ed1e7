// SPDX-License-Identifier: Apache-2.0

// Package grpcaccess guards gRPC methods: each is named with what is done to which
// kind of resource and for which purposes of use, and what is not named is denied
// (45 CFR 164.312(a)(1)).
//
//	guard, err := grpcaccess.New(grpcaccess.Config{
//		Authorizer: authorizer, Audit: journal, Authenticate: grpcaccess.Machine(keys, certificates),
//		Methods: map[string]grpcaccess.Rule{
//			"/clinic.v1.Charts/Get": {Action: access.Read, Resource: "patient", Purposes: []access.Purpose{access.Treatment}},
//		},
//	})
//	server := grpc.NewServer(grpc.UnaryInterceptor(guard.Unary()), grpc.StreamInterceptor(guard.Stream()))
//
// Names are whole method names with their leading slash; there are no patterns. A
// name without it, which some servers route all the same, is denied.
//
// # Streams
//
// Before each message of a stream, in either direction, the caller is
// authenticated and the rule decided anew, at most once in Config.Recheck: the
// stream of somebody who was revoked ends with the next message.
//
// # What a refusal tells
//
// Every refusal is the same status with a random decision ID and an offer in its
// details: it does not tell why, nor whether the record exists. A handler that
// finds no record, or that storage denies, returns [Guard.Refuse]. An error that is
// no status, and a panic, reach the caller as a constant one: their texts may hold
// PHI.
//
// This package decides about the kind of resource. storage decides about each
// record.
package grpcaccess
